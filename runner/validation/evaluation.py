"""Rules on how quality is measured."""

from collections.abc import Iterator

from runner.config.schema.engine import Dtype
from runner.config.schema.eval import EvalDtype, PerplexityProtocol
from runner.config.schema.root import Config, StageName
from runner.engines import all_engines, find_engine
from runner.engines.base import EngineImplementation
from runner.engines.traits import Tells
from runner.planning.arithmetic import FLOAT32, evaluated_checkpoints
from runner.validation.context import Facts
from runner.validation.verdict import Verdict, illegal, warning


def check_evaluation(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on arithmetic, protocols, and what is kept of the unquantized model."""
    yield from _check_arithmetic(config, facts)
    if StageName.eval not in config.stages:
        return
    protocols = config.eval.protocols
    if not protocols:
        yield illegal(
            "eval.protocols is empty, so eval measures nothing", "eval.protocols=[spread]"
        )
        return
    if len(set(protocols)) < len(protocols):
        named = ",".join(protocol.value for protocol in dict.fromkeys(protocols))
        yield illegal("eval.protocols names a protocol twice", f"eval.protocols=[{named}]")
        return
    yield from _check_room(config, facts)
    if config.eval.divergence:
        yield from _check_divergence(config, facts)


def _check_arithmetic(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Whether quality is measured in what was asked for, and what stands in float32's way."""
    measuring = [one for one in (StageName.eval, StageName.tasks) if one in config.stages]
    if not measuring or (StageName.eval not in measuring and not config.tasks.names):
        return
    if why := facts.arithmetic.why_narrow:
        yield warning(
            f"quality is measured in the engine's own type, not in float32: {why}; its figures are "
            "comparable with others of that type only",
            _engines_in_float32(config, facts),
        )
    dtype = config.eval.dtype
    engine = find_engine(config.engine.name)
    timed, measured = config.engine.dtype, facts.arithmetic.dtype
    idle = not {StageName.bench, StageName.serving}.intersection(config.stages)
    by_itself = engine.traits.own_arithmetic is not None
    if idle and not by_itself and timed is not Dtype.auto and timed.value != measured:
        yield warning(
            f"engine.dtype={timed.value} has no effect: it sets the type of bench and serving, and "
            f"quality is measured in {measured}",
            f"eval.dtype={timed.value}",
        )
    if dtype in (EvalDtype.auto, EvalDtype.engine) or engine.traits.own_arithmetic is not None:
        return
    for checkpoint in evaluated_checkpoints(
        config, facts.quantized_as, facts.text_config, facts.device, facts.gpus
    ):
        reason = engine.refusal(checkpoint.in_dtype(dtype.value))
        if reason and engine.refusal(checkpoint) is None:
            yield illegal(f"eval.dtype={dtype.value}: {reason}", "eval.dtype=engine")
            return


def _engines_in_float32(config: Config, facts: Facts) -> str | None:
    """Engines that have room for it, and read everything in it, where this one does not."""
    checkpoints = evaluated_checkpoints(
        config, facts.quantized_as, facts.text_config, facts.device, facts.gpus
    )

    def reads(engine: EngineImplementation) -> bool:
        refusals = (engine.refusal(one.in_dtype(FLOAT32)) for one in checkpoints)
        return engine.traits.own_arithmetic is None and not any(refusals)

    if reads(find_engine(config.engine.name)):
        return None
    able = [name for name, engine in all_engines().items() if reads(engine)]
    return " or ".join(f"engine={name}" for name in able) or None


def _check_room(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Whether a window fits what the engine is told to set aside."""
    length = config.eval.context_length
    if length < 4 and PerplexityProtocol.llama_cpp in config.eval.protocols:
        yield illegal(
            f"eval.context_length={length} is too short: protocol llama_cpp scores "
            "less than half of it",
            "eval.context_length=512",
        )
    # A window of lm_eval has a token more, the prefix, and some engines generate the last one.
    generates = find_engine(config.engine.name).traits.generates_last
    extra = PerplexityProtocol.lm_eval in config.eval.protocols and generates
    if (limit := config.engine.longest_sequence()) is not None:
        name, room = limit
        if length + extra > room:
            yield illegal(
                f"eval.context_length={length} does not fit engine.{name}={room}",
                f"eval.context_length={room - extra}",
            )
    context = facts.architecture.context
    if extra and context is not None and length == context:
        yield illegal(
            f"protocol lm_eval on {config.engine.name} needs {length + 1} tokens, but the model's "
            f"context is {context}",
            f"eval.context_length={context - 1}",
        )


def _check_divergence(config: Config, facts: Facts) -> Iterator[Verdict]:
    eval_ = config.eval
    tells_top = find_engine(config.engine.name).traits.tells is Tells.top
    vocabulary = facts.architecture.vocab
    if tells_top and vocabulary is not None and eval_.top_k > vocabulary:
        yield illegal(
            f"eval.top_k={eval_.top_k}: the model's vocabulary has {vocabulary} tokens",
            f"eval.top_k={vocabulary}",
        )
    token_bytes = _bytes_per_token(config, facts)
    if token_bytes is None:
        return
    tokens = _tokens_scored_per_window(eval_.protocols[0], eval_.context_length)
    needed = token_bytes * tokens * eval_.windows
    if needed <= eval_.reference_max_bytes:
        return
    fit = eval_.reference_max_bytes // (token_bytes * tokens)
    if fit == 0:
        yield illegal(
            f"eval.reference_max_bytes={eval_.reference_max_bytes} is too small for one window of "
            "the unquantized model's distributions",
            f"eval.reference_max_bytes={needed}, or eval.divergence=false",
        )
    else:
        yield warning(
            f"eval.reference_max_bytes={eval_.reference_max_bytes} holds {fit} of {eval_.windows} "
            "windows of the unquantized model's distributions, so divergence is measured on those "
            "only",
            f"eval.reference_max_bytes={needed}",
        )


def _tokens_scored_per_window(protocol: PerplexityProtocol, length: int) -> int:
    if protocol is PerplexityProtocol.llama_cpp:
        return length - 1 - length // 2
    return length if protocol is PerplexityProtocol.lm_eval else length - 1


def _bytes_per_token(config: Config, facts: Facts) -> int | None:
    """Bytes that ``runner.evaluation.metrics.reference`` keeps per token, as far as known."""
    shape = facts.architecture
    tells = find_engine(config.engine.name).traits.tells
    if tells is Tells.top:
        return 8 * (config.eval.top_k + 1)
    if tells is Tells.states:
        return None if shape.hidden is None else 4 * shape.hidden
    return None if shape.vocab is None else 2 * (shape.vocab + 4)
