"""Whether a checkpoint can be audited beside a base model, from what both say of themselves."""

from collections.abc import Iterator

from runner.config.schema.architecture import Architecture
from runner.config.schema.root import Config, StageName
from runner.planning.model_facts import audited_facts
from runner.validation.context import Facts
from runner.validation.verdict import Verdict, illegal, warning

_SIZES = ("layers", "hidden", "heads", "kv_heads")
_FLOAT = "float"


def check(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on the checkpoint and its base."""
    asked = config.audit.checkpoint
    if asked is None:
        yield illegal("audit.checkpoint is not set", "runner audit BASE QUANTIZED")
        return
    if StageName.quantize in config.stages:
        yield illegal(
            "stages has both quantize and audit, and a run measures one checkpoint",
            "a run for each in one sweep (sweep=NAME)",
        )
        return
    found = audited_facts(config)
    if found is None:
        return
    if facts.quantized_as:
        yield illegal(
            f"the base model {config.model.name} is quantized itself ({facts.quantized_as})",
            f"the model that {asked} was made from",
        )
    elif differing := _differing(facts.architecture, found.architecture):
        yield illegal(
            f"{asked} is no checkpoint of {config.model.name}: {differing}",
            "the model that it was made from",
        )
    elif found.format == _FLOAT:
        yield warning(f"{asked} is not quantized, as far as its files say")


def _differing(base: Architecture, found: Architecture) -> str:
    """Sizes that rounding changes nothing of."""
    told = []
    for name in _SIZES:
        own, other = getattr(base, name, None), getattr(found, name, None)
        if own is not None and other is not None and own != other:
            told.append(f"{name} {other}, not {own}")
    return ", ".join(told)
