"""What the runner costs over its libraries called by hand: same model, windows, types, machine.

``python -m benchmarks overhead``, or some methods by ``python -m benchmarks.overhead METHOD ...``.
Seconds are of processors, which other programs on the machine hardly change.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from benchmarks import by_hand
from runner.api import compose_config
from runner.environments.choose import choose
from runner.environments.manager import EnvironmentManager
from runner.pipeline.stages.jobs.windows import WINDOWS_FILE
from runner.store.records import StageRecord, read_records

_MODEL = "smollm2_135m"
_CALIBRATION = ("calibration.samples=8", "calibration.sequence_length=256")
_PREPARE = {
    "windows": ("method=rtn", "bits=w8a8", "method.activation_scales=static"),
    "converter": ("method=gguf", "bits=w8a16"),
}
"""Make the model, the text, the windows and llama.cpp's converter, which all find."""
_METHODS = {
    "rtn": (),
    "gptq": (),
    "awq": (),
    "autoround": ("method.iters=10",),
    "gguf": (),
}
"""And what is said of each beside its name."""
_RECIPES = {"gguf": ("bits=w4a16", "bits=w5a16")}
_TWO = ("group_size=g64", "group_size=g32")
"""The recipe that is also made by hand, and a further one that takes as long, say."""
_GOAL = 1.05
_SHARED = ("objects/gguf", "cache/dense_looks")
"""What the first recipe of a model makes for all, in the store."""


@dataclass(frozen=True)
class Taken:
    """Seconds of one command."""

    wall: float
    processors: float
    """Of all its processes."""
    printed: str


@dataclass(frozen=True)
class Compared:
    """Recipes made by the runner and by hand, in seconds of processors."""

    method: str
    script: float
    """The whole script, from the start of its interpreter to its end."""
    again: float
    """What of it another recipe in the same script would take."""
    command: float
    """The runner's whole command."""
    check: float
    """Of it, the reload that scores the checkpoint beside the model: a script has none."""
    further: float
    """What another recipe adds to a sweep, whose workers are warm."""
    further_check: float
    """Of it, the reload."""

    @property
    def row(self) -> str:
        """Of a Markdown table, under ``_HEAD``."""
        without, further = self.command - self.check, self.further - self.further_check
        cells = [
            *(f"{self.script:.1f}", f"{without:.1f}", f"{without / self.script:.2f}"),
            *(f"{self.command:.1f}", f"{self.command / self.script:.2f}"),
            *(f"{self.again:.1f}", f"{further:.1f}", f"{further / self.again:.2f}"),
            *(f"{self.further:.1f}", f"{self.further / self.again:.2f}"),
            f"{self.further / self.script:.2f}",
        ]
        return f"| {self.method} | {' | '.join(cells)} |"


_HEAD = """\
Seconds of processors, the check being the reload that a script has not; goal without it {goal}:

| recipe | script | command without check | ratio | with check | ratio \
| again in the script | further in a sweep, without check | ratio | with check | ratio \
| to a script of its own |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


def measure(methods: Collection[str] = tuple(_METHODS), model: str = _MODEL) -> str:
    """Processor time of each recipe, by the runner and by hand, one after the other.

    Args:
        methods: Some of rtn, gptq, awq, autoround, gguf.
        model: Of group ``model``.
    """
    with tempfile.TemporaryDirectory() as folder:
        benchmark = _Benchmark(Path(folder), model)
        benchmark.prepare("gguf" in methods)
        compared = [benchmark.compare(one) for one in methods]
    return "\n".join([_HEAD.format(goal=_GOAL), *(one.row for one in compared)])


class _Benchmark:
    def __init__(self, root: Path, model: str) -> None:
        self._root, self._model = root, model

    def prepare(self, converts: bool) -> None:
        for sweep, words in _PREPARE.items():
            if sweep != "converter" or converts:
                self._run(sweep, *words)

    def compare(self, method: str) -> Compared:
        words = (f"method={method}", *_METHODS[method])
        first, second = _RECIPES.get(method, _TWO)
        other = second.partition("=")[2]
        self._forget()
        command = self._run(method, *words, first)
        (stage,) = self._stages(method)
        script = self._by_hand(method, stage.result["compute_dtype"])
        # What a sweep takes beside its recipes: here all are done.
        sweep = self._run(f"{method}-done", *words, first, "-m").processors
        run = self._run(f"{method}-again", *words, first).processors
        self._forget()
        both = (f"{first},{other}", "force=[quantize]", "-m")
        two = self._run(f"{method}-two", *words, *both).processors
        _, further = self._stages(f"{method}-two")
        _, again = json.loads(script.printed.splitlines()[-1])
        return Compared(
            method, script.processors, again, command.processors, _check(stage),
            two - command.processors - (sweep - run), _check(further),
        )  # fmt: skip

    def _forget(self) -> None:
        """As if no recipe of the model had been made."""
        for place in _SHARED:
            shutil.rmtree(self._root / "store" / place, ignore_errors=True)

    def _stages(self, sweep: str) -> list[StageRecord]:
        records = read_records(self._root / "store" / "runs", sweep)
        return [one for record in records for one in record.stages if one.stage == "quantize"]

    def _run(self, sweep: str, *words: str) -> Taken:
        kind = "sweep" if "-m" in words else "run"
        return taken(
            [
                sys.executable, "-m", "runner", f"model={self._model}", *words, *_CALIBRATION,
                "stages=[quantize]", f"sweep={sweep}", "tracker=none",
                f"store.root={self._root / 'store'}", f"hydra.{kind}.dir={self._root / 'out'}",
            ],
            self._root,
        )  # fmt: skip

    def _by_hand(self, method: str, dtype: str) -> Taken:
        (model,) = self._root.glob("store/objects/model/*/model")
        output = self._root / f"{method}-by-hand"
        output.mkdir()
        if method == "gguf":
            script = "store/cache/packages/*/*/tree/vendor/llama.cpp/convert_hf_to_gguf.py"
            converter = next(self._root.glob(script))
            command = [_llama_cpp(), "-c", by_hand.GGUF, converter, model, output]
        else:
            (cut,) = self._root.glob(f"store/objects/windows/*/{WINDOWS_FILE}")
            command = [sys.executable, "-c", by_hand.ONESHOT, model, cut, dtype, method, output]
        return taken([*map(str, command)], self._root)


def _check(stage: StageRecord) -> float:
    return stage.resources.inspection_processor_seconds or 0.0


def _llama_cpp() -> str:
    """The interpreter of llama.cpp's environment."""
    config = compose_config(["method=gguf"])
    root = Path(config.store.environments).expanduser().resolve()
    ready = EnvironmentManager(root, root).find(choose(config.environment, "llama_cpp", "cpu"))
    assert ready is not None  # the runner has just used it
    return ready.python


def taken(command: list[str], root: Path) -> Taken:
    """Carry out a command.

    Raises:
        RuntimeError: It fails.
    """
    before, start = _children(), time.perf_counter()
    # Threads that wait for others must not count as work, nor must compiling the same code anew.
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "PASSIVE"}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        command, cwd=root, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-3000:])
    return Taken(time.perf_counter() - start, _children() - before, done.stdout)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Compare what the command line names."""
    parser = argparse.ArgumentParser("python -m benchmarks.overhead")
    parser.add_argument("methods", nargs="*", help=f"{', '.join(_METHODS)}; all by default")
    parser.add_argument("--model", default=_MODEL, help="of group model")
    asked = parser.parse_args()
    print(measure(asked.methods or tuple(_METHODS), asked.model))


if __name__ == "__main__":
    main()
