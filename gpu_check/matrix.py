"""All checks, the most important first: what comes last is left out where the time is short."""

from functools import partial

from gpu_check.checks import detection, devices, figures, processes, runs
from gpu_check.outcome import Check
from gpu_check.recipes import HF, LLAMA_CPP, VLLM, Recipe
from gpu_check.setting import Setting


def matrix(setting: Setting, *, dry: bool) -> list[Check]:
    """The checks for a machine; in a dry run recipes are judged and not carried out."""

    def of(*recipes: Recipe) -> list[Check]:
        if dry:
            return [
                Check(one.name, partial(runs.legal, setting, one), 0.1, False) for one in recipes
            ]
        return [Check(one.name, partial(runs.recipe, setting, one), one.needs) for one in recipes]

    def one(name: str, function: "partial[str]", least: float, computes: bool = True) -> Check:
        return Check(name, function, least, computes)

    unquantized, *quantized = HF
    return [
        one("GPUs", partial(detection.gpus, setting), 0.1, False),
        one("torch", partial(detection.torch_agrees, setting), 5),
        one("fork", partial(detection.forks, setting), 10),
        one("tiny", partial(runs.tiny, setting), 40),
        *of(unquantized),
        one("float32", partial(runs.float32, setting), 20),
        *of(*quantized[:3]),
        one("memory", partial(figures.memory, setting), 15),
        one("kill", partial(processes.kill, setting), 20),
        *of(*quantized[3:5]),
        one("second GPU", partial(devices.second, setting), 20),
        one("two GPUs", partial(devices.both, setting), 20),
        *of(*VLLM),
        *of(*LLAMA_CPP),
        *of(*quantized[5:]),
        one("tiny on the CPU", partial(runs.tiny_beside_cpu, setting), 40),
    ]


def conclusions(setting: Setting) -> list[Check]:
    """What the figures of those that ran say; they take no time and are never left out."""
    return [
        Check("limits", partial(figures.limits, setting), -1e9),
        Check("utilization", partial(figures.utilization, setting), -1e9),
        Check("predictions", partial(figures.predictions, setting), -1e9),
    ]
