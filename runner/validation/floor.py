"""Rules on the noise floor: a variation that changes nothing measures nothing."""

from collections.abc import Iterator

from runner.config.schema.floor import Variation
from runner.config.schema.root import Config, StageName
from runner.engines import find_engine, names_with
from runner.engines.traits import Tells
from runner.planning.arithmetic import FLOAT32
from runner.validation.context import Facts
from runner.validation.environments import Need, judge
from runner.validation.verdict import Verdict, illegal

_TYPES = {FLOAT32, "bfloat16"}


def check_floor(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on ``eval.floor`` and ``tasks.floor``."""
    if StageName.eval in config.stages:
        yield from _check("eval", config.eval.floor, config, facts)
        if Variation.batch_size in config.eval.floor:
            yield from _check_batches(config)
        if Variation.engine in config.eval.floor:
            yield from _check_other_engine(config, facts)
    if StageName.tasks in config.stages and config.tasks.names:
        yield from _check("tasks", config.tasks.floor, config, facts)
        if Variation.engine in config.tasks.floor:
            yield illegal(
                "tasks.floor=[engine]: engines ask tasks by prompts of their own",
                _without("tasks", config.tasks.floor, Variation.engine),
            )


def _check(section: str, floor: list[Variation], config: Config, facts: Facts) -> Iterator[Verdict]:
    """Variations of what engine and device do not let vary."""
    own, measured = find_engine(config.engine.name).traits.own_arithmetic, facts.arithmetic.dtype
    for one in dict.fromkeys(floor):
        # The default: where it changes nothing it costs nothing.
        if one is Variation.float32 and section == "eval":
            continue
        why = None
        if one.value in _TYPES:
            why = own.how if own else f"quality is measured in {measured}" * (measured == one.value)
            # Both of them are whichever is another type than the run's.
            if not own and {other.value for other in floor} >= _TYPES:
                why = None
        if facts.quantized_as is not None:
            why = "the model is quantized already, and a floor is the unquantized model's"
        elif one is Variation.threads and facts.device != "cpu":
            why = "a GPU computes, whatever the number of CPU threads"
        if why:
            yield illegal(
                f"{section}.floor=[{one.value}] measures nothing: {why}",
                _without(section, floor, one),
            )


def _check_batches(config: Config) -> Iterator[Verdict]:
    if not find_engine(config.engine.name).traits.scores_in_batches:
        able = names_with(lambda traits: traits.scores_in_batches)
        yield illegal(
            f"eval.floor=[batch_size]: engine {config.engine.name} scores one window at a time",
            " or ".join(f"engine={name}" for name in able),
        )


def _check_other_engine(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Whether another engine is named whose distributions can be compared with this one's."""
    own, other = config.engine.name, config.eval.floor_engine
    able = names_with(lambda traits: traits.tells is not Tells.top)
    others = [name for name in able if name != own]
    if own not in able:
        yield illegal(
            f"eval.floor=[engine]: {own} tells the most likely tokens only",
            _without("eval", config.eval.floor, Variation.engine),
        )
    elif other not in others:
        yield illegal(
            f"eval.floor=[engine] needs another engine, not eval.floor_engine={other or 'null'}"
            if other in (None, own)
            else f"eval.floor_engine={other} tells the most likely tokens only",
            " or ".join(f"eval.floor_engine={name}" for name in others),
        )
    elif not config.eval.divergence:
        yield illegal(
            "eval.floor=[engine] compares distributions, which eval.divergence=false leaves out",
            "eval.divergence=true",
        )
    else:
        yield from judge(config, facts, Need(other, facts.device))


def _without(section: str, floor: list[Variation], one: Variation) -> str:
    left = ",".join(other.value for other in floor if other is not one)
    return f"{section}.floor=[{left}]"
