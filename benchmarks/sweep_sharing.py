"""Five recipes of GPTQ in one sweep against five calls: what the recipes of a sweep share."""

import sys
import tempfile
from pathlib import Path

from benchmarks.overhead import Taken, taken

_BITS = ("w2a16", "w3a16", "w4a16", "w6a16", "w8a16")


def measure(model: str = "smollm2_135m", method: str = "gptq") -> str:
    """Both, from stores of their own in which the model and the text lie.

    Args:
        model: Of group ``model``.
        method: One that makes all of the five.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for store in ("sweep", "calls"):
            _call(root, store, model, method, "bits=w5a16")
        sweep = _call(root, "sweep", model, method, f"bits={','.join(_BITS)}", "-m")
        calls = [_call(root, "calls", model, method, f"bits={bits}") for bits in _BITS]
    processors, wall = sum(one.processors for one in calls), sum(one.wall for one in calls)
    return (
        f"{len(_BITS)} recipes of {method} on {model} in one sweep: {sweep.processors:.1f} s of "
        f"processors and {sweep.wall:.1f} s; in as many calls {processors:.1f} and {wall:.1f} s: "
        f"{sweep.processors / processors:.2f} and {sweep.wall / wall:.2f} times"
    )


def _call(root: Path, store: str, model: str, method: str, *words: str) -> Taken:
    return taken(
        [
            sys.executable, "-m", "runner", f"model={model}", f"method={method}", "group_size=g32",
            "stages=[quantize]", "calibration.samples=8", "calibration.sequence_length=256",
            "tracker=none", "sweep=shared", f"store.root={root / store}",
            f"hydra.{'sweep' if '-m' in words else 'run'}.dir={root / 'out'}", *words,
        ],
        root,
    )  # fmt: skip
