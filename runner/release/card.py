"""The model card: what the checkpoint is, how good and how fast, and how it was made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.release.licence import Licence
from runner.release.metadata import scores_of
from runner.release.remake import Remake
from runner.release.subject import Subject
from runner.reporting.floor import at_floor
from runner.reporting.row import Row
from runner.reporting.served import config_of, serve_command
from runner.util.serialise import to_json
from runner.util.shown import escaped

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

_FENCE = "```"


@dataclass(frozen=True)
class Names:
    """What things are called on the card."""

    checkpoint: str
    """Repository, or the directory's name."""
    base_model: str | None
    """Repository of the base model, where it has one."""


def card(
    subject: Subject, names: Names, remade: Remake, licence: Licence, data: "ModelCardData"
) -> str:
    """The whole of ``README.md``.

    Args:
        subject: What is handed on.
        names: What it is called.
        remade: What makes it again.
        licence: Of the checkpoint.
        data: The front matter.
    """
    parts = [
        f"---\n{data.to_yaml().strip()}\n---\n",
        f"# {escaped(names.checkpoint.rpartition('/')[2])}\n",
        *_summary(subject, names),
        *_use(subject, names),
        *_quality(subject),
        *_speed(subject),
        *_making(subject, remade),
        *_licence(licence),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _summary(subject: Subject, names: Names) -> Iterator[str]:
    record, made, base = subject.record, subject.made, subject.unquantized
    model = f"[{names.base_model}](https://huggingface.co/{names.base_model})"
    size = f"{made.checkpoint_bytes / 1e6:.1f} MB"
    if base is not None and base.checkpoint_bytes:
        size += f" instead of {base.checkpoint_bytes / 1e6:.1f} MB"
    shown = model if names.base_model else f"`{record.model}`"
    yield (
        f"{shown} quantized with recipe `{record.label}`: {made.bits_per_weight:.2f} bits per "
        f"quantized weight with scales, {size}, format {made.checkpoint_format}. Made and "
        f"measured by Quant Runner {record.versions.get('quant-runner', '')}.\n"
    )
    if subject.row.caveat:
        yield f"{escaped(subject.row.caveat)}\n"


def _use(subject: Subject, names: Names) -> Iterator[str]:
    record = subject.record
    place = Path(names.checkpoint)
    if (file := next(subject.directory.glob("*.gguf"), None)) is not None:
        place = Path(file.name)
    line = serve_command(record, place, config_of(subject.directory), here=False)
    if line is not None:
        yield f"It was measured on {record.engine}, which serves it by\n"
        yield f"{_FENCE}\n{line}\n{_FENCE}\n"


def _quality(subject: Subject) -> Iterator[str]:
    row, base = subject.row, subject.unquantized
    lines: list[Sequence[str]] = []
    if row.perplexity is not None:
        name = f"perplexity `{row.perplexity_protocol}` on {row.text}"
        before = "" if base is None or base.perplexity is None else f"{base.perplexity:.3f}"
        change = _between(
            row.perplexity_delta, row.perplexity_delta_low, row.perplexity_delta_high, "+.3g"
        )
        lines.append((name, before, f"{row.perplexity:.3f}", change))
    if row.kl_divergence is not None:
        most = "≤ " if at_floor(row) else ""
        interval = _between(row.kl_divergence, row.kl_divergence_low, row.kl_divergence_high, ".4f")
        lines.append(
            ("KL divergence from the unquantized model, nats a token", "", most + interval, "")
        )
    if row.top_1_agreement is not None:
        lines.append(("same most likely token", "", f"{row.top_1_agreement:.1%}", ""))
    before_of = {} if base is None else scores_of(subject, base)
    for name, cell in scores_of(subject, row).items():
        error = "" if cell.standard_error is None else f" ± {cell.standard_error:.3f}"
        known = before_of.get(name)
        before = "" if known is None else f"{known.value:.3f}"
        change = "" if cell.delta is None else f"{cell.delta:+z.3f}"
        lines.append((f"`{name}`", before, f"{cell.value:.3f}{error}", change))
    if not lines:
        yield "Quality was not measured.\n"
        return
    yield "## Quality\n"
    yield _table(("", "unquantized", "this", "change [95% interval]"), lines)
    yield f"{' '.join(_how(subject))}\n"


def _how(subject: Subject) -> Iterator[str]:
    row = subject.row
    if row.sample is not None:
        yield (
            f"Text: {row.sample.documents} of {row.sample.documents_available} documents of "
            f"{row.text}, digest of the tokens `{row.sample.tokens_sha256}`."
        )
    yield (
        f"Computed in {row.arithmetic or 'an arithmetic that the record does not name'} on engine "
        f"{subject.record.engine}, both models on the same tokens."
    )
    if row.seeds == 1:
        yield "One calibration seed: intervals are over the evaluated text, not other seeds."


def _speed(subject: Subject) -> Iterator[str]:
    rows = [row for row in subject.rows if row.decode_tokens_per_second is not None]
    if not rows:
        return
    yield "## Speed\n"
    machine = escaped(rows[-1].machine or "a machine without a name")
    yield f"On {machine}, engine {rows[-1].engine}.\n"
    head = ("", "batch", "decode tok/s", "ratio [95% interval]", "first token", "peak memory")
    yield _table(head, [_timed(row) for row in rows])


def _timed(row: Row) -> tuple[str, ...]:
    ratio = "" if row.is_baseline else _between(
        row.decode_ratio, row.decode_ratio_low, row.decode_ratio_high, ".2f"
    )  # fmt: skip
    first, peak = row.time_to_first_token_seconds, row.peak_memory_bytes
    return (
        "unquantized" if row.is_baseline else "this",
        str(row.batch_size),
        f"{row.decode_tokens_per_second:.1f}",
        ratio,
        "" if first is None else f"{first * 1e3:.1f} ms",
        "" if peak is None else f"{peak / 1e6:.0f} MB",
    )


def _making(subject: Subject, remade: Remake) -> Iterator[str]:
    record, made = subject.record, subject.made
    yield "## How it was made\n"
    yield f"{_FENCE}\n{remade.command}\n{_FENCE}\n"
    if remade.places:
        yield (
            f"`{'`, `'.join(remade.places)}` name files of whoever made it, by their last part.\n"
        )
    if remade.unsaid:
        yield f"The command does not say all: `{'`, `'.join(map(escaped, remade.unsaid))}`.\n"
    yield f"The recipe:\n\n{_FENCE}yaml\n{recipe_yaml(subject).strip()}\n{_FENCE}\n"
    facts = [f"base model: `{record.model}`, digest `{record.model_fingerprint}`"]
    for part in made.calibration_parts:
        facts.append(
            f"calibration: {part.windows} windows, {part.tokens} tokens of {escaped(part.text)}"
        )
    if made.calibration_sha256:
        facts.append(f"digest of the calibration windows: `{made.calibration_sha256}`")
    facts.append(f"calibrated and rounded on {made.device} in {made.compute_dtype}")
    facts += [f"{entry.stage} of the {entry.subject}: key `{entry.key}`" for entry in record.stages]
    yield "\n".join(f"- {fact}" for fact in facts) + "\n"
    versions = dict(record.versions)
    for entry in record.stages:
        versions |= entry.versions
    yield f"Versions: {', '.join(f'{name} {one}' for name, one in sorted(versions.items()))}.\n"


def recipe_yaml(subject: Subject) -> str:
    """The recipe of the checkpoint's manifest; what is not set is left out."""
    import yaml

    return yaml.safe_dump(_said(to_json(subject.made.recipe)), sort_keys=False, allow_unicode=True)


def _said(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        # A folder of this machine is nobody else's business.
        name: Path(one).name if name == "path" else _said(one)
        for name, one in value.items()
        if one not in (None, [], {})
    }


def _licence(licence: Licence) -> Iterator[str]:
    yield "## Licence\n"
    if licence.id is None:
        yield (
            "The base model's files do not state one. Terms of the base model apply to what was "
            "made from it.\n"
        )
    else:
        name = f" ({escaped(licence.name)})" if licence.name else ""
        yield f"{escaped(licence.id)}{name}.\n"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    aligned = [":--", *["--:"] * (len(head) - 1)]
    table = [head, aligned, *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table) + "\n"


def _between(estimate: float | None, low: float | None, high: float | None, form: str) -> str:
    if estimate is None:
        return ""
    if low is None or high is None:
        return f"{estimate:{form}}"
    return f"{estimate:{form}} [{low:{form}}, {high:{form}}]"
