"""Rules on how keys and values are held."""

from collections.abc import Iterator
from dataclasses import replace

from runner.config.schema.kv_cache import KvCache
from runner.config.schema.root import Config, StageName
from runner.engines import all_engines, find_engine
from runner.engines.base import CachingEngine, CheckpointFacts, EngineImplementation
from runner.planning.arithmetic import evaluated_checkpoints
from runner.validation.context import Facts
from runner.validation.verdict import Verdict, illegal

KV_STAGES = (StageName.eval, StageName.tasks, StageName.bench, StageName.serving, StageName.plan)
"""Stages whose results depend on it."""


def check_kv_cache(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Whether the engine holds keys and values of this model so, on this device."""
    kv_cache = config.kv_cache
    if (
        kv_cache.is_auto
        or not facts.asks_engine
        or not {*KV_STAGES[:-1]}.intersection(config.stages)
    ):
        return
    checkpoint = evaluated_checkpoints(
        config, facts.quantized_as, facts.text_config, facts.device, facts.gpus
    )[0]
    # A model that is yet to be made has no config.json.
    known = {"head_dim": facts.architecture.head_dim, **checkpoint.config}
    checkpoint = replace(checkpoint, config=known)
    reason = _reason(find_engine(config.engine.name), config.engine.name, kv_cache, checkpoint)
    if reason is None:
        return
    able = [
        name
        for name, engine in all_engines().items()
        if name != config.engine.name and _reason(engine, name, kv_cache, checkpoint) is None
    ]
    yield illegal(reason, " or ".join(f"engine={name}" for name in able) or "kv_cache=auto")


def _reason(
    engine: EngineImplementation, name: str, kv_cache: KvCache, checkpoint: CheckpointFacts
) -> str | None:
    traits = engine.traits
    lacking = [one for one in kv_cache.formats if one not in traits.kv_cache_formats]
    if lacking:
        known = ", ".join(one.value for one in traits.kv_cache_formats)
        return f"engine={name} has no KV cache in {lacking[0].value}, only in {known}"
    if kv_cache.key is not kv_cache.value and not traits.kv_cache_apart:
        return f"engine={name} holds keys and values in one format, not in {kv_cache.label}"
    if kv_cache.group is not None and not traits.kv_cache_groups:
        return f"kv_cache.group_size={kv_cache.group}: engine={name} has groups of its own size"
    if not isinstance(engine, CachingEngine):
        return None
    return engine.kv_cache_refusal(kv_cache, checkpoint)
