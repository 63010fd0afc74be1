"""Step ``eval``: quality of a checkpoint."""

from typing import Any

from runner.config.schema.eval import Bos, Eval
from runner.config.schema.root import StageName
from runner.data.texts.degenerate import LEFT_OUT
from runner.data.texts.protocols import Excerpt
from runner.data.texts.windows import needs_bos
from runner.pipeline.checkpoint import Subject
from runner.pipeline.inputs import (
    AUTO,
    TRANSFORMERS,
    Inputs,
    engine_determinants,
    engine_versions,
)
from runner.pipeline.session import Obtained, Work
from runner.pipeline.stages.eval import EvalRequest
from runner.pipeline.stages.tokens import TokensRequest
from runner.planning.arithmetic import FLOAT32, can_measure_floor
from runner.planning.model_facts import model_facts

FLOOR = "floor"
"""Name under which the record files the unquantized model against itself in float32."""


def require_tokens(inputs: Inputs, model: Subject) -> None:
    """See that the evaluation text suffices, before anything heavy is done, and tell of it.

    Raises:
        WorkerFailed: It is too short.
    """
    eval_ = inputs.config.eval
    text = inputs.text(eval_.text)
    environment = inputs.environment(TRANSFORMERS)
    request = TokensRequest(excerpt_of(inputs, model, text), eval_.protocols)
    determinants = {
        "tokenizer": model.identity,
        "text": text.address.key,
        **cut_determinants(eval_),
        "versions": environment.versions(("transformers", "tokenizers")),
    }
    task = inputs.task("tokens", request, environment)
    found = inputs.session.obtain(Work(f"tokens of {eval_.text.name}", task, determinants))
    _tell(inputs, found.said, model)


def _tell(inputs: Inputs, found: dict[str, Any], model: Subject) -> None:
    """What is odd about the windows."""
    for name, count in found.get("left_out", {}).items():
        if count:
            inputs.mention(f"{name}: {count} windows passed over that have {LEFT_OUT}")
    for name, count in found.get("degenerate", {}).items():
        if count:
            inputs.warn(
                f"{name}: {count} of {found['windows'][name]} windows have {LEFT_OUT}; they are "
                "scored all the same, as was published; protocol spread passes them over"
            )
    eval_ = inputs.config.eval
    without = eval_.bos is Bos.never and any(p.takes_bos for p in eval_.protocols)
    if without and needs_bos(model.directory):
        inputs.warn(
            f"{inputs.config.model.name} is of a family that is lost without a BOS before a text, "
            "and eval.bos=never scores windows without: set eval.bos=auto"
        )


def cut_determinants(eval_: Eval) -> dict[str, Any]:
    """What of an evaluation decides which tokens of a text are looked at."""
    return {
        "context_length": eval_.context_length,
        "windows": eval_.windows,
        "protocols": [protocol.value for protocol in eval_.protocols],
        "bos": eval_.bos.value,
    }


def excerpt_of(inputs: Inputs, model: Subject, text: Obtained) -> Excerpt:
    """What of a text is evaluated, in the unquantized model's tokens."""
    return Excerpt(
        text_directory=text.directory,
        tokenizer_directory=model.directory,
        length=inputs.config.eval.context_length,
        count=inputs.config.eval.windows,
        trust_remote_code=inputs.config.model.trust_remote_code,
        bos=inputs.config.eval.bos,
    )


def evaluate(
    inputs: Inputs,
    subject: Subject,
    model: Subject,
    baseline: Obtained | None,
    dtype: str | None = None,
) -> Obtained:
    """Quality of a subject, against the baseline's evaluation where there is one.

    Args:
        inputs: Of the run.
        subject: What to evaluate.
        model: The unquantized model, whose tokens are scored.
        baseline: Its evaluation.
        dtype: Another arithmetic than the run's.
    """
    eval_, engine = inputs.config.eval, inputs.config.engine
    subject = inputs.presented(subject, for_quality=True)
    text = inputs.text(eval_.text)
    environment = inputs.environment(engine.name, engine.environment)
    load = inputs.load(subject, engine, dtype or inputs.arithmetic.dtype)
    request = EvalRequest(
        load=load,
        excerpt=excerpt_of(inputs, model, text),
        protocols=eval_.protocols,
        divergence=eval_.divergence,
        reference_max_bytes=eval_.reference_max_bytes,
        top_k=eval_.top_k,
        baseline_directory=baseline.directory if baseline else None,
    )
    determinants = {
        "subject": subject.identity,
        "tokenizer": model.identity,
        "text": text.address.key,
        **cut_determinants(eval_),
        "divergence": [eval_.reference_max_bytes, eval_.top_k] if eval_.divergence else None,
        **engine_determinants(load),
        "baseline": baseline.address.key if baseline else None,
        "versions": engine_versions(environment, engine.name),
    }
    force = StageName.eval in inputs.config.force
    task = inputs.task("eval", request, environment, subject)
    title = f"eval {subject.label}" + (f" in {dtype}" if dtype else "")
    return inputs.session.obtain(Work(title, task, determinants, force))


def floor(inputs: Inputs, model: Subject) -> Obtained | None:
    """What the arithmetic alone does: the unquantized model against itself in float32.

    ``None`` where it is float32, the engine's own, or float32 cannot be had here.
    """
    asked = inputs.arithmetic.dtype
    dtype = model.dtype if asked == AUTO else asked
    parameters = model_facts(inputs.config.model).parameters
    if dtype == FLOAT32 or not can_measure_floor(inputs.config, inputs.compute, parameters):
        return None
    wide = evaluate(inputs, model, model, None, FLOAT32)
    return evaluate(inputs, model, model, wide, dtype)
