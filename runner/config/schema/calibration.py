"""The text that a recipe is calibrated on."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from omegaconf import MISSING

from runner.config.bounds import SEED, bounded
from runner.config.schema.text import Text


class Cut(Enum):
    """How windows of tokens are made of documents; never by padding."""

    concatenated = "concatenated"
    """Documents are joined and cut into windows of full length."""
    per_sample = "per_sample"
    """A window is the beginning of one document; documents that are too short are left out."""


@dataclass
class Source:
    """One text of a mix, and its part of the windows."""

    text: Any = MISSING
    """Name of an option of group ``text``, or a mapping whose ``name`` is one and whose other
    fields stand over that option's. A ``Text`` once the configuration is composed."""
    weight: Optional[float] = bounded(None, above=True)
    """Share of the windows, relative to the other sources' weights."""
    samples: Optional[int] = bounded(None, least=1)
    """Number of windows, instead of a weight."""


@dataclass
class Calibration:
    """Windows of tokens cut from a text or a mix of texts, without padding."""

    name: str = MISSING
    text: Optional[Text] = field(default=None)
    sources: list[Source] = field(default_factory=list)
    """A mix, instead of one text."""
    samples: int = 0
    """Number of windows."""
    sequence_length: int = 0
    """Tokens in a window (the maximum if windows are cut per sample)."""
    cut: Cut = Cut.concatenated
    minimum_length: Optional[int] = bounded(None, least=2)
    """Skip documents with fewer tokens (per_sample); by default ``sequence_length``."""
    apply_chat_template: bool = False
    """Format conversations with the model's chat template."""
    skip_documents: int = 0
    """Number of documents to skip at the start of every text, because an evaluation reads them
    (``eval.text.documents``)."""
    skip_tokens: int = 0
    """Number of tokens to skip at the start of every text, because an evaluation reads them with a
    protocol that begins there (gptq, llama_cpp, lm_eval)."""
    seed: int = bounded(0, most=SEED)
    """Seed for choosing and ordering windows."""
    min_tokens_per_expert: int = 64
    """Warn if an expert of a mixture gets fewer tokens than this."""
    allow_unseen_experts: bool = False
    """Quantize a mixture even if some expert gets no token at all."""

    @property
    def tokens(self) -> int:
        """Tokens seen in all; at most, when windows are cut per sample."""
        return self.samples * self.sequence_length

    @property
    def parts(self) -> list[Source]:
        """The texts it draws on; one of weight 1 when it is no mix."""
        if self.sources:
            return self.sources
        return [] if self.text is None else [Source(self.text, weight=1.0)]

    def unread(self) -> dict[str, str]:
        """Fields that have no effect, each with the reason."""
        unread = {}
        if self.sources:
            unread["text"] = "is a mix, of which sources are the texts"
        if self.cut is Cut.concatenated:
            unread["minimum_length"] = "joins documents, whatever their length (cut=concatenated)"
        return unread

    @property
    def texts_label(self) -> str:
        """Its texts and their shares, from the values: ``bible`` or ``bible*3+openwebtext*1``."""
        parts = self.parts
        shares = [_share(part) for part in parts]
        same = len(set(shares)) == 1
        names = (_text_name(part.text) for part in parts)
        return "+".join(
            name if same else f"{name}*{share}" for name, share in zip(names, shares, strict=True)
        )


def _share(part: Source) -> str:
    return f"{part.weight:g}" if part.weight is not None else f"{part.samples}w"


def _text_name(text: Any) -> str:
    if isinstance(text, Text):
        return text.name
    name: str = text["name"] if isinstance(text, dict) else text
    return name


def windows_of_parts(calibration: Calibration) -> list[int]:
    """How many windows each part gives: counts as they are told, the rest by weight.

    Shares are rounded by largest remainder, so they add up to ``samples``.

    Raises:
        ValueError: The parts cannot be shared out so; the message says why.
    """
    parts, total = calibration.parts, calibration.samples
    for part in parts:
        if (part.weight is None) == (part.samples is None):
            raise ValueError(f"source {_text_name(part.text)} needs either a weight or samples")
        if (part.weight or part.samples or 0) <= 0:
            raise ValueError(f"source {_text_name(part.text)} has no positive share")
    fixed = sum(part.samples or 0 for part in parts)
    weights = [part.weight or 0.0 for part in parts]
    rest = total - fixed
    if rest < 0 or (rest and not any(weights)):
        raise ValueError(f"sources count {fixed} windows, calibration.samples is {total}")
    scale = rest / sum(weights) if any(weights) else 0.0
    counts = [
        part.samples or int(weight * scale) for part, weight in zip(parts, weights, strict=True)
    ]
    remainders = [(int(w * scale) - w * scale, i) for i, w in enumerate(weights) if w]
    for _, index in sorted(remainders)[: total - sum(counts)]:
        counts[index] += 1
    if 0 in counts:
        name = _text_name(parts[counts.index(0)].text)
        raise ValueError(f"source {name} gets none of the {total} windows")
    return counts
