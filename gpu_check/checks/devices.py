"""Several GPUs: one that was named, and all together."""

from gpu_check import driver
from gpu_check.outcome import Failed, NotPossible
from gpu_check.recipes import HF, LOAD, ONE_BILLION
from gpu_check.setting import Setting, bytes_in_words
from runner.pipeline.result import RunResult

_USED_BYTES = 500 * 10**6
_IDLE_BYTES = 100 * 10**6


def second(setting: Setting) -> str:
    """``engine.device=cuda:1`` computes on the second GPU, and on no other."""
    _two(setting)
    words, added = _bench(setting, "second_gpu", "engine.device=cuda:1")
    if added[1] < _USED_BYTES or max(added[:1] + added[2:]) > _IDLE_BYTES:
        raise Failed(f"memory in use: {words}")
    (gpu,) = setting.records["second_gpu"][0].host["gpus"]
    if gpu["uuid"] != setting.gpus[1].uuid:
        raise Failed(f"the record tells of {gpu['name']} {gpu['uuid']}")
    return f"memory in use: {words}"


def both(setting: Setting) -> str:
    """``engine.gpus=2`` spreads a model over two GPUs; the record tells of both."""
    _two(setting)
    words, added = _bench(setting, "two_gpus", "engine.gpus=2")
    if min(added[:2]) < _USED_BYTES:
        raise Failed(f"memory in use: {words}")
    told = len(setting.records["two_gpus"][0].host["gpus"])
    if told != len(added[:2]):
        raise Failed(f"the record tells of {told} GPUs")
    return f"memory in use: {words}"


def _two(setting: Setting) -> None:
    if len(setting.gpus) < 2:
        raise NotPossible(f"{len(setting.gpus)} visible")
    if any(gpu.is_slice for gpu in setting.gpus):
        raise NotPossible("CUDA takes one slice of a GPU at a time")


def _bench(setting: Setting, name: str, *more: str) -> tuple[str, list[int]]:
    arguments = (*ONE_BILLION, *HF[0].overrides, "stages=[eval,bench]", *LOAD, *more)
    with driver.watched(setting.gpus) as seen:
        (record,) = setting.run(name, *arguments, limit=120.0)
    found = RunResult.of(record)
    scored = found.eval or found.baseline_eval
    words = ", ".join(f"GPU {at} {bytes_in_words(new)}" for at, new in enumerate(seen.added))
    return f"{words}; perplexity {scored.perplexity.value:.5g}" if scored else words, seen.added
