"""What an unquantized model says of the check's windows, kept for the next recipe of that model."""

import contextlib
import importlib.metadata
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.engines.loading import LoadRequest
from runner.store.files import sha256_of_json
from runner.store.provenance import states

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_BYTES = 1 << 29
"""Of one that is kept: 256 tokens of a vocabulary of half a million."""
_MOST_KEPT = 4
_PACKAGES = ("torch", "transformers")


@dataclass
class Look:
    """What a model says of the windows, and of its layers."""

    losses: "NDArray[np.float64]"
    log_probabilities: list[Any]
    """Of each window: an array of (tokens, vocabulary), or the most likely tokens alone."""
    responses: "dict[str, NDArray[np.float32]]"


class DenseLooks:
    """A few of them in files, the latest ones."""

    def __init__(self, cache: Path) -> None:
        """Below the store's ``cache``; nothing is created before it is needed."""
        self._folder = cache / "dense_looks"

    def place(self, request: LoadRequest, windows: list[list[int]]) -> Path:
        """Where the look of a model lies, if it is kept.

        Whatever changes its numbers is in the file's name: files by size and time, the windows,
        the arithmetic, and what computes it.

        Args:
            request: The unquantized model.
            windows: Token ids.
        """
        key = sha256_of_json(
            [
                str(request.checkpoint.resolve()),
                {name: [*state] for name, state in states(request.checkpoint).items()},
                [request.device, request.dtype, request.wide_logits, request.trust_remote_code],
                windows,
                [importlib.metadata.version(name) for name in _PACKAGES],
            ]
        )
        return self._folder / f"{key[:20]}.npz"

    def read(self, place: Path) -> Look | None:
        """What is kept there; ``None`` if nothing is, or it cannot be read."""
        import zipfile

        import numpy as np

        try:
            with np.load(place, allow_pickle=False) as kept:
                windows = sum(name.startswith("window ") for name in kept.files)
                told: list[Any] = [kept[f"window {number}"] for number in range(windows)]
                return Look(
                    losses=kept["losses"],
                    log_probabilities=told,
                    responses={
                        name.removeprefix("layer "): kept[name]
                        for name in kept.files
                        if name.startswith("layer ")
                    },
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def keep(self, place: Path, look: Look) -> None:
        """Keep it for the next recipe, unless it is large or there is no room."""
        import numpy as np

        arrays: dict[str, Any] = {"losses": look.losses}
        arrays |= {f"window {number}": one for number, one in enumerate(look.log_probabilities)}
        arrays |= {f"layer {name}": one for name, one in look.responses.items()}
        if sum(one.nbytes for one in arrays.values()) > _MOST_BYTES:
            return
        beside = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with beside.open("wb") as file:
                    np.savez(file, **arrays)
                beside.replace(place)
            finally:
                beside.unlink(missing_ok=True)
            for old in sorted(place.parent.glob("*.npz"), key=os.path.getmtime)[:-_MOST_KEPT]:
                old.unlink(missing_ok=True)
