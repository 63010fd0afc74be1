"""Step ``eval``: quality of a checkpoint."""

from runner.config.root import StageName
from runner.engines import find_engine
from runner.experiment.arithmetic import FLOAT32, can_measure_floor
from runner.experiment.inputs import AUTO, TRANSFORMERS, Inputs, engine_determinants
from runner.experiment.model_facts import model_facts
from runner.experiment.subject import Subject
from runner.session import Obtained, Work
from runner.stages.eval import EvalRequest
from runner.stages.tokens import TokensRequest
from runner.texts.protocols import Excerpt
from runner.texts.windows import bos_determinant

FLOOR = "floor"
"""Name under which the record files the unquantized model against itself in float32."""


def require_tokens(inputs: Inputs, model: Subject) -> None:
    """See that the evaluation text suffices, before anything heavy is done.

    Raises:
        WorkerFailed: It is too short.
    """
    eval_ = inputs.config.eval
    text = inputs.text(eval_.text)
    environment = inputs.environment(TRANSFORMERS)
    request = TokensRequest(_excerpt(inputs, model, text), eval_.protocols)
    determinants = {
        "tokenizer": model.identity,
        "text": text.address.key,
        "context_length": eval_.context_length,
        "windows": eval_.windows,
        "protocols": [protocol.value for protocol in eval_.protocols],
        **bos_determinant(model.directory),
        "versions": environment.versions(("transformers", "tokenizers")),
    }
    task = inputs.task("tokens", request, environment)
    inputs.session.obtain(Work(f"tokens of {eval_.text.name}", task, determinants))


def _excerpt(inputs: Inputs, model: Subject, text: Obtained) -> Excerpt:
    return Excerpt(
        text_directory=text.directory,
        tokenizer_directory=model.directory,
        length=inputs.config.eval.context_length,
        count=inputs.config.eval.windows,
        trust_remote_code=inputs.config.model.trust_remote_code,
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
        excerpt=_excerpt(inputs, model, text),
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
        "context_length": eval_.context_length,
        "windows": eval_.windows,
        "protocols": [protocol.value for protocol in eval_.protocols],
        **bos_determinant(model.directory),
        "divergence": [eval_.reference_max_bytes, eval_.top_k] if eval_.divergence else None,
        **engine_determinants(load),
        "baseline": baseline.address.key if baseline else None,
        "versions": environment.versions(find_engine(engine.name).packages),
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
