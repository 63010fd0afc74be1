"""What models take of a machine's memory and of its GPUs', as the dry run's estimate has it.

``python -m benchmarks.memory [MODEL …]`` prints a table of models of ``conf/model`` for machines of
24 GB cards and of 80 GB cards, made up: nothing is loaded, and nothing measured.
"""

import argparse
from collections.abc import Iterator

from hydra import compose, initialize_config_dir

from runner.config.compose import register, typed
from runner.config.schema.root import Config
from runner.multirun.launchers.estimate import Estimate, Experience
from runner.planning.hardware.detect import Machine
from runner.planning.model_facts import model_facts
from runner.util.gpus import Gpu
from runner.util.paths import conf_dir

MODELS = ("llama32_3b", "llama31_8b", "qwen3_32b", "llama31_70b")
CARDS = (24, 80)
_MOST, _GIGA = 8, 10**9
_UNQUANTIZED = "method=none bits=bf16 stages=[eval]"
WORK = {
    "quantize, rtn w4a16": "method=rtn bits=w4a16 group_size=g128 stages=[quantize]",
    "quantize, fp8": "method=fp8 bits=fp8_e4m3 group_size=per_channel stages=[quantize]",
    "quantize, gptq w4a16": "method=gptq bits=w4a16 group_size=g128 stages=[quantize]",
    "quantize, awq w4a16": "method=awq bits=w4a16 group_size=g128 stages=[quantize]",
    "quantize, bnb_4bit nf4": "method=bnb_4bit bits=nf4 group_size=g64 stages=[quantize]",
    "eval in hf, bf16": f"engine=hf {_UNQUANTIZED}",
    "eval in vllm, bf16": f"engine=vllm {_UNQUANTIZED}",
    "eval in hf, float32": f"engine=hf eval.dtype=float32 {_UNQUANTIZED}",
    "sensitivity": "stages=[sensitivity]",
}


def machine(cards: int, size: int, memory: int = 2000) -> Machine:
    """So many cards of so many GB, and so many GB beside them."""
    gpus = tuple(Gpu("a card", size * _GIGA, "9.0", f"GPU-{n}", n) for n in range(cards))
    return Machine("a CPU", "x86_64", 32, 64, ("avx2",), 2**28, memory * _GIGA, gpus)


def estimate(config: Config, there: Machine) -> Estimate:
    """Of the one stage that a configuration asks for."""
    parameters = model_facts(config.model).parameters or 0
    return Experience([]).estimate(config.stages[0], config, there, parameters)


def fewest(text: str, size: int) -> tuple[int, Estimate] | None:
    """Cards of a size that a run fits on, and what it takes there; ``None``: more than eight."""
    for number in (1, 2, 3, 4, 5, 6, 7, 8):
        shared = f" engine.tensor_parallel_size={number}" if "engine=vllm" in text else ""
        if shared and number & (number - 1):
            continue  # heads are shared out evenly
        found = estimate(_composed(text + shared), machine(number, size))
        if found.gpu_bytes <= size * _GIGA:
            return number, found
    return None


def rows(model: str) -> Iterator[str]:
    """A model's rows of the table."""
    for work, asked in WORK.items():
        text = f"model={model} {asked}"
        wide = estimate(_composed(text), machine(_MOST, 80))
        memory = f"{wide.memory_bytes / _GIGA:.0f}"
        if "quantize" in work or work == "sensitivity":
            half = _composed(f"{text} method.rounding_dtype=bfloat16")
            narrow = f"{estimate(half, machine(_MOST, 80)).memory_bytes / _GIGA:.0f}"
            memory = memory if memory == narrow else f"{memory} ({narrow} in bfloat16)"
        cells = []
        for size in CARDS:
            if (found := fewest(text, size)) is None:
                alone = not work.startswith("eval")
                cells.append("too small" if alone else f"more than {_MOST}")
                continue
            number, taken = found
            cells.append(f"{number} × {taken.gpu_bytes / _GIGA:.0f} GB")  # noqa: RUF001
        yield f"| {model} | {work} | {memory} | {' | '.join(cells)} |"


def _composed(text: str) -> Config:
    return typed(compose("config", text.split()))


def table(models: tuple[str, ...] = MODELS) -> str:
    """In Markdown."""
    register()
    sizes = " | ".join(f"{size} GB cards" for size in CARDS)
    lines = [f"| model | stage | memory, GB | {sizes} |", "|---|---|---|---|---|"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="runner"):
        for model in models:
            lines += rows(model)
    return "\n".join(lines)


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser("python -m benchmarks.memory", description=__doc__)
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"by default {', '.join(MODELS)}"
    )
    print(table(tuple(parser.parse_args().models) or MODELS))


if __name__ == "__main__":
    main()
