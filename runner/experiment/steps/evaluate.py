"""Step ``eval``: quality of a checkpoint."""

from runner.config.root import StageName
from runner.engines import find_engine
from runner.experiment.inputs import Inputs, engine_determinants
from runner.experiment.subject import Subject
from runner.session import Obtained, Work
from runner.stages.eval import EvalRequest


def evaluate(
    inputs: Inputs, subject: Subject, model: Subject, baseline: Obtained | None
) -> Obtained:
    """Quality of a subject, against the baseline's evaluation where there is one."""
    eval_, engine = inputs.config.eval, inputs.config.engine
    subject = inputs.presented(subject)
    text = inputs.text(eval_.text)
    environment = inputs.environment(engine.name, engine.environment)
    load = inputs.load(subject, engine)
    request = EvalRequest(
        load=load,
        tokenizer_directory=model.directory,
        text_directory=text.directory,
        context_length=eval_.context_length,
        windows=eval_.windows,
        baseline_directory=baseline.directory if baseline else None,
    )
    determinants = {
        "subject": subject.identity,
        "tokenizer": model.identity,
        "text": text.address.key,
        "context_length": eval_.context_length,
        "windows": eval_.windows,
        **engine_determinants(load),
        "baseline": baseline.address.key if baseline else None,
        "versions": environment.versions(find_engine(engine.name).packages),
    }
    force = StageName.eval in inputs.config.force
    task = inputs.task("eval", request, environment)
    return inputs.session.obtain(Work(f"eval {subject.label}", task, determinants, force))
