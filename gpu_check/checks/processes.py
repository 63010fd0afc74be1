"""Processes that are killed leave nothing behind."""

import os
import signal
import time
from pathlib import Path

from gpu_check import driver
from gpu_check.checks.runs import size
from gpu_check.outcome import Failed, RunFailed
from gpu_check.recipes import HF
from gpu_check.setting import Setting, bytes_in_words

_SWEEP = "kill"
_AT_WORK_BYTES = 10**9
"""On the GPU once the model is loaded; the tiny one of a rehearsal is not looked for."""
_SLACK_BYTES = 50 * 10**6
_LOADED_WITHIN = 90.0
_FREE_WITHIN = 15.0


def kill(setting: Setting) -> str:
    """SIGKILL of ``runner`` in the middle of a bench: its workers end, the GPU's memory is free."""
    model, _ = size(setting)
    before = driver.used_bytes(setting.gpus)
    arguments = (
        *model, *HF[0].overrides, "stages=[bench]", "bench.repetitions=100000",
        "bench.prompt_tokens=64", "bench.new_tokens=64", "bench.batch_sizes=[1]",
    )  # fmt: skip
    with setting.started(_SWEEP, *arguments) as process:
        began = time.monotonic()
        while not (held := _at_work(setting, process.pid, before)):
            if process.poll() is not None:
                raise RunFailed(setting.last_words(_SWEEP), setting.tail(_SWEEP))
            if time.monotonic() - began > min(
                _LOADED_WITHIN * setting.patience, setting.budget.left
            ):
                raise RunFailed("it was not at work in time", setting.tail(_SWEEP))
            time.sleep(0.2)
        workers = descendants(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed = time.monotonic()
        while left := [pid for pid in workers if _runs(pid)]:
            if time.monotonic() - killed > _FREE_WITHIN:
                raise Failed(
                    f"{len(left)} of {len(workers)} workers live on after {_FREE_WITHIN} s"
                )
            time.sleep(0.05)
        words = f"{len(workers)} workers ended within {time.monotonic() - killed:.1f} s"
        if not setting.gpus:
            return words
        try:
            driver.wait_until_free(setting.gpus, before, _SLACK_BYTES, _FREE_WITHIN)
        except TimeoutError as late:
            raise Failed(f"{words}, but {late}") from None
        seconds = time.monotonic() - killed
        return f"{words}, {bytes_in_words(held)} were free after {seconds:.1f} s"


def _at_work(setting: Setting, runner: int, before: list[int]) -> int:
    """Bytes that the run holds on the GPU once it measures; on a CPU 1 once a worker is busy."""
    if not setting.gpus:
        return int("bench" in " ".join(setting.tail(_SWEEP)) and len(descendants(runner)) > 1)
    held = sum(driver.used_bytes(setting.gpus)) - sum(before)
    return held if held > _AT_WORK_BYTES else 0


def descendants(process: int) -> list[int]:
    """Process numbers of all children, and of theirs."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name in parentheses may hold anything.
            rest = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue
        if rest[0] != "Z":
            parents[int(folder.name)] = int(rest[1])
    found: list[int] = []
    generation = [process]
    while generation:
        generation = [pid for pid, parent in parents.items() if parent in generation]
        found += generation
    return found


def _runs(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
