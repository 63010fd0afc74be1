"""The unquantized model's distributions, kept for comparisons with every recipe.

A float32 logarithm for each token of the vocabulary would take 197 KB a token with the default
model. Kept is, a file a window, what the engine allows:

- ``states``: where logits are a stored matrix times the final states (engine hf), the states: 2.3
  KB a token. The same product gives the same logits again, so nothing is lost.
- ``codes``: else 16 bits for each logarithm, between the least and the greatest of the token, as
  ``llama-perplexity`` keeps them (but not cut off at 16 nats): half the size, and an error of at
  most range / 131070, about 0.0003 nats, that is as often up as down.
- ``top``: the k most likely tokens of engines that tell no more (vllm).
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.engines.distributions import (
    Distributions,
    FullDistributions,
    LinearHead,
    TopDistributions,
)
from runner.engines.hf.head import product, read_head
from runner.errors import StageError
from runner.evaluation.metrics.divergence import token_divergence, top_divergence
from runner.store.files import write_json_atomically
from runner.store.journal import Journal
from runner.store.partial_results import write_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIRECTORY = "reference"
_FORM_FILE = "form.json"
_CODES = 65535
_HEADER = 4
"""Codes' room that a row's two float32 take."""


@dataclass
class ReferenceForm:
    """What is kept."""

    form: str
    """``states``, ``codes`` or ``top``."""
    windows: int
    tokens: int
    bytes: int
    head: LinearHead | None = None


class ReferenceWriter:
    """Keeps the distributions of the leading windows, as many as fit."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Use ``directory``, where an earlier attempt may have kept some."""
        self._directory = directory
        self._journal = Journal(directory)
        self._max_bytes = max_bytes
        self._full = False
        self._kept = ReferenceForm("", 0, 0, 0)

    @property
    def full(self) -> bool:
        """Whether there is no room for further windows."""
        return self._full

    def has_lost(self, number: int) -> bool:
        """Whether what an earlier attempt kept of a window is no longer what it was."""
        path = _path(self._directory, number)
        return path.exists() and not (
            self._journal.is_sound(path.name) and self._form_is_readable()
        )

    def _form_is_readable(self) -> bool:
        try:
            content = json.loads((self._directory / _FORM_FILE).read_text("utf-8"))
            return "form" in content and "head" in content
        except (OSError, ValueError, TypeError):
            return False

    def resume(self, number: int) -> None:
        """Count in a window that an earlier attempt finished, in the order of windows."""
        import numpy as np

        path = _path(self._directory, number)
        self._full = self._full or not path.exists()
        if not self._full:
            content = json.loads((self._directory / _FORM_FILE).read_text("utf-8"))
            self._kept.form, head = content["form"], content["head"]
            self._kept.head = LinearHead(**head) if head else None
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
            self._count(stored.shape[0], stored.nbytes)

    def keep(self, number: int, found: Distributions, targets: list[int]) -> "NDArray[np.float32]":
        """Keep a window's distributions if there is room; gives its token losses in nats."""
        import numpy as np

        form = _form_of(found)
        size = _row_bytes(found) * len(targets)
        self._full = self._full or self._kept.bytes + size > self._max_bytes
        if not self._full and number == 0:
            head = getattr(found, "head", None)
            self._kept.form, self._kept.head = form, head
            write_json_atomically(
                self._directory / _FORM_FILE, {"form": form, "head": asdict(head) if head else None}
            )
        codes: list[NDArray[np.uint16]] = []
        losses = []
        for chunk, right in _with_targets(found, targets):
            losses.append(right_losses(chunk, right))
            if form == "codes" and not self._full:
                codes.append(encode(chunk))
        if isinstance(found, TopDistributions):
            losses = [-found.top["log_probability"][:, -1]]
        if not self._full:
            write_array(_path(self._directory, number), _stored(found, codes), self._journal)
            self._count(len(targets), size)
        elif number == 0:
            raise StageError(
                f"eval.reference_max_bytes={self._max_bytes} is too small for one window of the "
                f"unquantized model's distributions ({size} bytes): raise it, or set "
                "eval.divergence=false"
            )
        return np.concatenate(losses)

    def finish(self, output: Path) -> ReferenceForm:
        """Have everything below ``output`` too; says what it is."""
        place = output / DIRECTORY
        place.mkdir()
        # Linked, not moved: an attempt that is killed now leaves them to the next one.
        for number in range(self._kept.windows):
            _link(_path(self._directory, number), _path(place, number))
        write_json_atomically(place / _FORM_FILE, asdict(self._kept))
        return self._kept

    def _count(self, tokens: int, size: int) -> None:
        self._kept.windows += 1
        self._kept.tokens += tokens
        self._kept.bytes += size


class Reference:
    """What a ``ReferenceWriter`` kept."""

    def __init__(self, directory: Path, checkpoint: Path, device: str) -> None:
        """Read a baseline's result in ``directory``.

        Args:
            directory: Of the result.
            checkpoint: The unquantized model's, for the head of form ``states``.
            device: Where to compute with the head.
        """
        from runner.util.serialise import from_json

        self._directory = directory / DIRECTORY
        content = json.loads((self._directory / _FORM_FILE).read_text("utf-8"))
        self._form = from_json(ReferenceForm, content)
        self.windows = self._form.windows
        self.is_top = self._form.form == "top"
        self._device = device
        self._head = (
            read_head(checkpoint, self._form.head, device) if self._form.head is not None else None
        )

    def compare(
        self, number: int, found: Distributions, targets: list[int]
    ) -> "NDArray[np.float32]":
        """A window's token losses in nats, then its ``token_divergence``: a row each."""
        import numpy as np

        stored = np.load(_path(self._directory, number), mmap_mode="r", allow_pickle=False)
        if isinstance(found, TopDistributions):
            losses = -found.top["log_probability"][None, :, -1]
            return np.concatenate([losses, top_divergence(stored, found.top)])
        parts = []
        done = 0
        for chunk, right in _with_targets(found, targets):
            base = self._logarithms(stored[done : done + len(chunk)])
            if base.shape != chunk.shape:
                raise StageError(
                    f"distributions over {chunk.shape[1]} tokens cannot be compared with those "
                    f"over {base.shape[1]}: the engines pad the vocabulary differently"
                )
            losses = right_losses(chunk, right)[None]
            parts.append(np.concatenate([losses, token_divergence(base, chunk)]))
            done += len(chunk)
        return np.concatenate(parts, axis=1)

    def _logarithms(self, rows: "NDArray[Any]") -> "NDArray[np.float32]":
        if self._head is None:
            return decode(rows)
        import torch

        with torch.inference_mode():
            # The very product, of the same shape, that the engine made its logits by.
            logits = product(torch.tensor(rows).to(self._head.device), self._head)
            logarithms: NDArray[np.float32] = torch.log_softmax(logits, dim=-1).cpu().numpy()
            return logarithms


def losses_of(found: Distributions, targets: list[int]) -> "NDArray[np.float32]":
    """Token losses of a window in nats."""
    import numpy as np

    if isinstance(found, TopDistributions):
        losses: NDArray[np.float32] = -found.top["log_probability"][:, -1]
        return losses
    return np.concatenate([right_losses(*pair) for pair in _with_targets(found, targets)])


def right_losses(
    logarithms: "NDArray[np.float32]", right: "NDArray[np.int64]"
) -> "NDArray[np.float32]":
    """Negative logarithms of the right tokens' probabilities."""
    import numpy as np

    losses: NDArray[np.float32] = -np.take_along_axis(logarithms, right[:, None], axis=1)[:, 0]
    return losses


def encode(logarithms: "NDArray[np.float32]") -> "NDArray[np.uint16]":
    """16-bit codes, each row preceded by its least value and its step as two float32."""
    import numpy as np

    least = logarithms.min(axis=1, keepdims=True)
    step = (logarithms.max(axis=1, keepdims=True) - least) / np.float32(_CODES)
    step[step == 0] = 1
    codes = np.rint((logarithms - least) / step).astype(np.uint16)
    header = np.concatenate([least, step], axis=1).astype(np.float32)
    return np.concatenate([header.view(np.uint16), codes], axis=1)


def decode(rows: "NDArray[np.uint16]") -> "NDArray[np.float32]":
    """Logarithms out of the codes."""
    import numpy as np

    header = np.ascontiguousarray(rows[:, :_HEADER]).view(np.float32)
    decoded: NDArray[np.float32] = rows[:, _HEADER:].astype(np.float32)
    decoded *= header[:, 1:]
    decoded += header[:, :1]
    return decoded


def _with_targets(
    found: Distributions, targets: list[int]
) -> "Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]":
    import numpy as np

    if isinstance(found, FullDistributions):
        rest = np.array(targets, np.int64)
        for chunk in found.chunks:
            right, rest = rest[: len(chunk)], rest[len(chunk) :]
            yield chunk, right


def _form_of(found: Distributions) -> str:
    if isinstance(found, TopDistributions):
        return "top"
    return "codes" if found.states is None else "states"


def _row_bytes(found: Distributions) -> int:
    """Bytes that a token takes."""
    if isinstance(found, TopDistributions):
        return found.top.strides[0]
    return 2 * (found.vocabulary + _HEADER) if found.states is None else found.states.strides[0]


def _stored(found: Distributions, codes: "list[NDArray[np.uint16]]") -> "NDArray[Any]":
    import numpy as np

    if isinstance(found, TopDistributions):
        return found.top
    return np.concatenate(codes) if found.states is None else found.states


def _path(directory: Path, number: int) -> Path:
    return directory / f"window-{number:05d}.npy"


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:  # not on every file system
        shutil.copyfile(source, place)
