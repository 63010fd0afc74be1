"""How often a speed is told from that of the very same model: the A/A test of the table's rule.

The unquantized model is held against itself by stage ``bench``, in processes forked for each
measurement as workers are, while busy loops come and go beside them. Every difference that is
"shown" is a false alarm: 5% are promised. Before that the same through whole runs: a recipe that
changes nothing (method ``none``, in the type that is computed in anyway), in rows of the answer.

``python -m benchmarks.speed_noise [TRIALS [RUNS [LOOPS [FILE]]]]``; FILE gets all measurements.
"""

import contextlib
import io
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner import keep_workers, run
from runner.evaluation.metrics.noise import compare
from runner.reporting.rows import rows_of
from runner.reporting.timing import DECODE, FIRST_TOKEN, against_unquantized, samples
from runner.store.records import RunRecord
from runner.util.serialise import to_json

_TRIALS, _RUNS = 25, 8
_SIZES = (1, 4)
_RUN = ["model=tiny", "method=none", "bits=fp32", "engine.dtype=float32", "stages=[quantize,bench]",
        "bench.prompt_tokens=16", "bench.new_tokens=8", "tracker=none"]  # fmt: skip


def measure(
    trials: int = _TRIALS, runs: int = _RUNS, loops: int | None = None, kept: Path | None = None
) -> str:
    """A line for each way of measuring: false alarms with their share's 95% interval.

    Args:
        trials: Comparisons by the stage's functions, each at every batch size.
        runs: Comparisons by whole runs, each at the first batch size.
        loops: Busy processes beside; as many as cores if not said.
        kept: File for every measurement, a JSON line a trial.
    """
    loops = len(os.sched_getaffinity(0)) if loops is None else loops
    # As the tests have it: threads that spin while they wait would take minutes on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    alarms: dict[str, list[bool]] = {}
    with tempfile.TemporaryDirectory() as place, _busy(loops), contextlib.ExitStack() as stack:
        stack.enter_context(keep_workers())
        stream = stack.enter_context(kept.open("w")) if kept else None
        base = [*_RUN, f"store.root={place}"]
        with contextlib.redirect_stdout(io.StringIO()):
            made = run([*base, "sweep=first", "bench.repetitions=1"]).record
            for number in range(runs):
                record = run([*base, f"sweep=run{number}"]).record
                _note(alarms, "in turns, whole runs", _shown(record))
        alone, turns = _stages(made, Path(place))
        before: tuple[Any, Any] | None = None
        seconds = {"separate": 0.0, "in turns": 0.0}
        for _ in range(trials):
            start = time.monotonic()
            baseline, recipe = _forked(alone), _forked(alone)
            middle = time.monotonic()
            mixed = _forked(turns)
            seconds["separate"] += (middle - start) / 2
            seconds["in turns"] += time.monotonic() - middle
            for size in _SIZES:
                for metric in (DECODE, FIRST_TOKEN):
                    plain = compare(*(samples(one, size, metric) for one in (recipe, baseline)))
                    _note(alarms, "separate, by their repetitions", not plain.within_noise)
                    _judge(alarms, "in turns", mixed, baseline, None, size, metric)
                    if before:
                        _judge(
                            alarms, "measured again", before[1], before[0], baseline, size, metric
                        )
            before = (baseline, recipe)
            if stream is not None:
                content = {"baseline": baseline, "recipe": recipe, "turns": mixed}
                print(json.dumps(content), file=stream, flush=True)
    spent = ", ".join(f"{how} {total / max(1, trials):.2f} s" for how, total in seconds.items())
    return "\n".join(
        [
            f"A/A test of speeds, {loops} busy loops on {len(os.sched_getaffinity(0))} cores",
            *(_line(how, found) for how, found in alarms.items()),
            f"  a bench took: {spent}",
        ]
    )


def _shown(record: RunRecord) -> bool:
    row = rows_of([record])[-1]
    assert row.decode_compared == "in turns", record.reason
    return row.decode_within_noise is False


def _judge(
    alarms: dict[str, list[bool]],
    how: str,
    recipe: dict[str, Any],
    baseline: dict[str, Any],
    again: dict[str, Any] | None,
    size: int,
    metric: str,
) -> None:
    found = against_unquantized(recipe, baseline, again, size, metric)
    assert found is not None and found.how.value == how
    _note(alarms, how, not found.comparison.within_noise)


def _note(alarms: dict[str, list[bool]], how: str, alarm: bool) -> None:
    alarms.setdefault(how, []).append(alarm)


def _line(how: str, found: list[bool]) -> str:
    share = sum(found) / len(found)
    error = 1.96 * math.sqrt(max(share, 0.5 / len(found)) * (1 - share) / len(found))
    return f"  {how}: {sum(found)} false alarms of {len(found)}: {share:.1%} ± {error:.1%}"


def _stages(
    record: RunRecord, store: Path
) -> tuple[Callable[[], dict[str, Any]], Callable[[], dict[str, Any]]]:
    """Stage ``bench`` on the unquantized model, alone and in turns with itself."""
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401  as a worker's parent has it

    from runner.config.schema.bench import Bench, Interleave
    from runner.config.schema.engine import Engine
    from runner.engines.loading import LoadRequest
    from runner.pipeline.stages.bench import STAGE, BenchRequest
    from runner.pipeline.worker.job import StageContext

    (model,) = store.glob("objects/model/*/model")
    load = LoadRequest(model, "float", Engine(name="hf"), "cpu", "float32", trust_remote_code=False)
    given = record.config["bench"]
    bench = Bench(
        prompt_tokens=given["prompt_tokens"],
        new_tokens=given["new_tokens"],
        batch_sizes=[*_SIZES],
        interleave=Interleave.always,
    )
    threads = len(os.sched_getaffinity(0))

    def never(_: Any) -> Any:
        raise AssertionError("bench loads for itself")

    context = StageContext(store, store, store, threads, lambda *_: None, never)

    def measured(against: LoadRequest | None) -> dict[str, Any]:
        torch.set_num_threads(threads)
        request = BenchRequest(load, bench, [], None, "fp32", against)
        content: dict[str, Any] = to_json(STAGE.run(request, context))
        return content

    return lambda: measured(None), lambda: measured(load)


def _forked(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``work`` gives in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writing, "w") as stream:
            stream.write(json.dumps(work()))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        content: dict[str, Any] = json.loads(stream.read())
    os.waitpid(child, 0)
    return content


@contextlib.contextmanager
def _busy(loops: int) -> Iterator[None]:
    """Processes that compute and rest for random times, seconds at most."""
    started = [
        subprocess.Popen([sys.executable, __file__, "--busy", str(number)])
        for number in range(loops)
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def _spin(seed: int) -> None:
    generator = random.Random(seed)
    parent = os.getppid()
    while os.getppid() == parent:
        until = time.monotonic() + generator.expovariate(1 / 0.7)
        while time.monotonic() < until:
            sum(range(10_000))
        time.sleep(generator.expovariate(1 / 0.7))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--busy"]:
        _spin(int(sys.argv[2]))
    else:
        numbers = [int(argument) for argument in sys.argv[1:4]]
        file = Path(sys.argv[4]) if len(sys.argv) > 4 else None
        print(measure(*numbers, kept=file))
