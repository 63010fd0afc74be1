"""What scoring and comparing a window cost on top of the forward pass that yields its logits."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from runner import run
from runner.config.schema.engine import Engine
from runner.engines import find_engine
from runner.engines.base import LoadSpec
from runner.evaluation.metrics.reference import Reference, ReferenceWriter

_REPETITIONS = 7
_TOKENS = 512


def measure() -> str:
    """Medians on the same tokens, interleaved; comparing is a model against itself."""
    import torch

    result = run(["method=none", "stages=[eval]", "eval=quick", "tracker=none"])
    store = Path(result.record.config["store"]["root"]).expanduser()
    directory = max(store.glob("objects/model/*/model"), key=lambda path: path.stat().st_mtime)
    threads = len(os.sched_getaffinity(0))
    settings = Engine(name="hf")
    spec = LoadSpec(directory, "float", "cpu", "float32", False, threads, settings)
    loaded = find_engine("hf").load(spec)
    ids = torch.randint(0, 49000, (_TOKENS,), generator=torch.Generator().manual_seed(0)).tolist()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        writer = ReferenceWriter(folder / "partial", 10**9)
        writer.keep(0, loaded.distributions(ids, _TOKENS - 1, 0), ids[1:])
        writer.finish(folder)
        reference = Reference(folder, directory, "cpu")

        def forward() -> None:
            with torch.inference_mode():
                loaded.model(input_ids=torch.tensor([ids]), use_cache=False)

        def compare() -> None:
            reference.compare(0, loaded.distributions(ids, _TOKENS - 1, 0), ids[1:])

        tasks = (forward, lambda: loaded.token_losses(ids), compare)
        seconds = [[_timed(task) for task in tasks] for _ in range(_REPETITIONS + 1)][1:]
    bare, scoring, comparing = (median(column) for column in zip(*seconds, strict=True))
    return (
        f"a window of {_TOKENS} tokens: bare forward pass {bare:.3f} s, scored {scoring:.3f} s "
        f"({scoring / bare:.2f}x), scored and compared with the unquantized model "
        f"{comparing:.3f} s ({comparing / bare:.2f}x); medians of {_REPETITIONS}"
    )


def _timed(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start
