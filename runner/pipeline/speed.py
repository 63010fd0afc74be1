"""The stages that measure speed, for each of a run's subjects."""

from collections.abc import Callable

from runner.config.schema.root import StageName
from runner.pipeline.checkpoint import Subject
from runner.pipeline.inputs import Inputs
from runner.pipeline.session import Obtained
from runner.pipeline.steps.bench import bench, needs_baseline_again
from runner.pipeline.steps.serving import serving
from runner.store.records import BASELINE_AGAIN


def measure_speed(
    inputs: Inputs,
    model: Subject,
    subjects: list[tuple[str, Subject, Subject | None]],
    keep: Callable[[StageName, str, Obtained], None],
) -> None:
    """Bench and serve what is asked for, subject by subject.

    Args:
        inputs: Of the run.
        model: The unquantized model, whose tokenizer makes the prompts.
        subjects: Under which name, what, and the model it was made from.
        keep: Files a stage's result under that name.
    """
    for whose, measured, made_from in subjects:
        if StageName.bench in inputs.config.stages:
            found = bench(inputs, measured, made_from)
            keep(StageName.bench, whose, found)
            if made_from is not None and needs_baseline_again(inputs, found):
                keep(StageName.bench, BASELINE_AGAIN, bench(inputs, model, None, after=found))
        if StageName.serving in inputs.config.stages:
            keep(StageName.serving, whose, serving(inputs, measured, model))
