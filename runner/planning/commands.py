"""The commands that follow from a plan: what measures its first choice, and what serves it."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.config.options import option_files
from runner.config.schema.hardware import Hardware
from runner.config.schema.kv_cache import KvCache
from runner.config.schema.model import Model, ModelKind
from runner.config.schema.plan import Plan
from runner.config.words import quoted, shell_word
from runner.engines import find_engine
from runner.engines.planned import DeployedEngine, Deployment
from runner.planning.budgets import Budget
from runner.planning.formats import Format, find_format
from runner.planning.model_shape import Shape
from runner.planning.option import Feasibility, Option
from runner.planning.phrases import where
from runner.planning.ranking import best
from runner.planning.serving import weights_of

_FILE = Path(__file__).with_name("made_with.yaml")
_PLAIN = re.compile(r"[\w./…-]+")
_CHECKPOINT = "CHECKPOINT"
_DIRECTORIES = "float"
"""Format of unquantized checkpoints in Hugging Face layout."""
_AS_IT_IS = 16
"""Bits from which nothing is quantized."""
_WHOLE = "--enable-expert-parallel"
"""What a warning names where devices share experts out whole."""
_REQUESTS_EACH = 8
"""Requests of each user when it is measured: of fewer the first and last ones weigh too much."""


@dataclass(frozen=True)
class Command:
    """A line for a shell, and what it is for."""

    about: str
    line: str


def commands(
    options: Sequence[Option],
    model: Model,
    plan: Plan,
    published_as: str | None,
    devices: Mapping[str, Hardware],
    *,
    kv_cache: KvCache | None = None,
    shape: Shape | None = None,
) -> list[Command]:
    """What measures and what serves the first choice, or the nearest miss where nothing serves.

    Args:
        options: Ranked.
        model: Of the plan.
        plan: The load and its objectives.
        published_as: Recipe in which the model is published, if not in 16 bits.
        devices: By name.
        kv_cache: How keys and values are held; ``None``: as the engine does by itself.
        shape: Of the model, for recipes with a budget of bytes.
    """
    chosen = best(options)
    what = "it"
    if chosen is None:
        near = (Feasibility.too_slow, Feasibility.quality_risk)
        chosen = options[0] if options and options[0].verdict in near else None
        what = "the nearest miss"
    if chosen is None or chosen.engine is None:
        return []
    engine = find_engine(chosen.engine)
    if not isinstance(engine, DeployedEngine):
        return []
    source = _Source(find_format(chosen.recipe, shape), model, published_as, engine.dense_format)
    deployment = Deployment(
        model=source.served,
        devices=chosen.tensor_parallel,
        context_length=plan.context_length,
        sequences=(chosen.engine_sequences or 1) if engine.traits.serves_together else 1,
        kv_cache=kv_cache or KvCache(),
        memory_utilization=plan.memory_utilization,
        prefill_chunk_tokens=plan.prefill_chunk_tokens,
        compute_capability=devices[chosen.device].compute_capability,
        whole_experts=any(_WHOLE in warning for warning in chosen.warnings),
    )
    found = []
    made, settings = source.made_with, engine.measured_with(deployment)
    if made is not None and settings is not None:
        held = kv_cache_words(deployment.kv_cache)
        words = [*made, f"engine={chosen.engine}", *settings, *held, *_load(plan)]
        about = f"To measure {what}, on {where(chosen)}"
        found.append(Command(about, f"runner {' '.join(words)}"))
    if (line := engine.serve_command(deployment)) is not None:
        found.append(Command(f"To serve {what}{source.where}", line))
    return found


class _Source:
    """Where a checkpoint of a model in a format comes from."""

    def __init__(self, fmt: Format, model: Model, published_as: str | None, read: str) -> None:
        """Args: ``read``, the format of unquantized checkpoints that the engine reads."""
        self._fmt, self._model = fmt, model
        self._reads_directories = read == _DIRECTORIES
        self._is_model = fmt.label == (published_as or fmt.label) and (
            published_as is not None or fmt.weight_bits >= _AS_IT_IS
        )
        self._of_published = published_as is not None

    @property
    def served(self) -> str:
        """What an engine is given: the model itself, or what is made of it."""
        own = self._model.hub_id or self._model.path
        is_read = self._is_model and self._reads_directories
        return _shell(own) if is_read and own else _CHECKPOINT

    @property
    def where(self) -> str:
        """What has to be there first."""
        if self.served != _CHECKPOINT:
            return ""
        if self._is_model and not self._reads_directories:
            return f" ({_CHECKPOINT}: a GGUF file of the model in {self._fmt.label})"
        if self.made_with is None:
            return f" ({_CHECKPOINT}: a published {self._fmt.label} one; no method here makes it)"
        what = "folder checkpoint/" if self._reads_directories else "GGUF file"
        return f" ({_CHECKPOINT}: the {what} that stage quantize writes into the store)"

    @property
    def made_with(self) -> list[str] | None:
        """Overrides that make and measure it; ``None`` where no method here does."""
        words = model_words(self._model)
        if self._is_model:
            bits = [] if self._of_published else [f"bits={self._fmt.label}"]
            return ['"stages=[eval,bench,serving]"', *words, "method=none", *bits]
        made = None if self._of_published else made_with(self._fmt)
        stages = '"stages=[quantize,eval,bench,serving]"'
        return None if made is None else [stages, *words, *made]


def made_with(fmt: Format) -> list[str] | None:
    """Overrides of the runner's configuration that make a recipe; ``None``: no method does."""
    weights = weights_of(fmt, mixture=False)
    if fmt.budget is not None:
        chosen = _words_of_budget(fmt.budget, weights.group)
        return [*chosen, "method.sym=false"] if weights.zero_points else chosen
    if fmt.covers is not None:
        return None
    line = _table().get(fmt.label) or _table().get(weights.scheme)
    if line is None:
        return None
    words = line.format(bits=weights.scheme, group=weights.group, type=fmt.label.upper()).split()
    return [*words, "method.sym=false"] if weights.zero_points else words


def _words_of_budget(budget: Budget, group: str) -> list[str]:
    """Overrides that have each layer's format chosen."""
    if budget.is_gguf:
        return ["method=gguf", *budget.words]
    return ["method=gptq", *budget.words, f"group_size={group}"]


@functools.cache
def _table() -> dict[str, str]:
    import yaml

    content: dict[str, str] = yaml.safe_load(_FILE.read_text("utf-8"))
    return content


def kv_cache_words(kv_cache: KvCache) -> list[str]:
    """Overrides that choose how keys and values are held."""
    if kv_cache.is_auto:
        return []
    words = [f"kv_cache={kv_cache.key.value}"]
    if kv_cache.value is not kv_cache.key:
        words.append(f"kv_cache.value={kv_cache.value.value}")
    if kv_cache.group is not None:
        words.append(f"kv_cache.group_size={kv_cache.group}")
    return words


def model_words(model: Model) -> list[str]:
    """Overrides that choose a model."""
    if model.name in option_files("model"):
        return [f"model={model.name}"]
    if model.kind is ModelKind.hub:
        return ["model=hub", _word("model.hub_id", model.hub_id)]
    return ["model=local", _word("model.path", model.path)]


def _word(key: str, value: str | None) -> str:
    text = value or "…"
    return f"{key}={text}" if _PLAIN.fullmatch(text) else shell_word(f"{key}={quoted(text)}")


def _shell(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else shell_word(value)


def _load(plan: Plan) -> list[str]:
    """Overrides of stage ``serving`` for the load that was planned."""
    words = [
        f"serving.prompt_tokens={plan.prompt_tokens}",
        f"serving.new_tokens={max(2, plan.context_length - plan.prompt_tokens)}",
        f'"serving.concurrencies=[{plan.concurrency}]"',
        f"serving.requests={_REQUESTS_EACH * plan.concurrency}",
    ]
    for name, objective in (
        ("time_to_first_token", plan.ttft_seconds),
        ("time_per_output_token", plan.latency_seconds),
    ):
        if objective is not None:
            words.append(f"serving.slo.{name}_seconds={objective:g}")
    return words
