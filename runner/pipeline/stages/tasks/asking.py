"""How a checkpoint is asked, whatever it is asked, and what decides its answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.engines import find_engine
from runner.engines.server.client import EngineProcess
from runner.engines.traits import HarnessModel
from runner.evaluation.lm_eval.environment import harness_need
from runner.pipeline.inputs import engine_determinants, engine_versions
from runner.pipeline.stages.tasks import Asking

if TYPE_CHECKING:
    from runner.environments.ready import ReadyEnvironment
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.inputs import Inputs

PACKAGES = ("lm-eval", "datasets", "jinja2", "tokenizers")


def asking_of(
    inputs: "Inputs", subject: "Checkpoint", model: "Checkpoint", batch_size: int
) -> Asking:
    """A checkpoint in the run's engine and arithmetic."""
    tasks = inputs.config.tasks
    return Asking(
        load=inputs.load(subject, inputs.config.engine, inputs.arithmetic.dtype),
        tokenizer_directory=model.directory,
        apply_chat_template=tasks.apply_chat_template,
        batch_size=batch_size,
        seed=tasks.seed,
        run_code=tasks.run_code,
        metadata=metadata_of(inputs, model),
        process=_process(inputs),
    )


def metadata_of(inputs: "Inputs", model: "Checkpoint") -> dict[str, Any]:
    """What tasks are told, where some are not our own: a tokenizer to measure lengths with."""
    tasks = inputs.config.tasks
    if all(name in tasks.own for name in tasks.names):
        return {}
    return {"tokenizer": str(model.directory), **tasks.metadata}


def measured_with(inputs: "Inputs", model: "Checkpoint") -> dict[str, Any]:
    """What of that decides which items there are; results without still count."""
    metadata = inputs.config.tasks.metadata
    return {"metadata": metadata, "tokenizer": model.identity} if metadata else {}


def _process(inputs: "Inputs") -> EngineProcess | None:
    """Of the engine's own environment, where the harness asks a model there."""
    if (own := _engine_environment(inputs)) is None:
        return None
    return EngineProcess(own.python, own.variables, list(own.patches))


def _engine_environment(inputs: "Inputs") -> "ReadyEnvironment | None":
    """The engine's own environment, where that is not the harness's."""
    engine = inputs.config.engine
    if find_engine(engine.name).traits.harness_model is not HarnessModel.tokens:
        return None
    return inputs.environment(engine.name, engine.environment)


def determinants_of(
    inputs: "Inputs", asking: Asking, subject: "Checkpoint", model: "Checkpoint"
) -> dict[str, Any]:
    """What decides every answer of a checkpoint, whatever it is asked."""
    name, harness = inputs.config.engine.name, harness_environment(inputs)
    own = _engine_environment(inputs) or harness
    patches = {"engine_patches": list(own.patches)} if own is not harness and own.patches else {}
    return {
        "subject": subject.identity,
        "tokenizer": model.identity,
        "apply_chat_template": asking.apply_chat_template,
        "batch_size": asking.batch_size,
        "seed": asking.seed,
        **measured_with(inputs, model),
        **engine_determinants(asking.load),
        "versions": harness.versions(PACKAGES) | engine_versions(own, name),
        **patches,
    }


def harness_environment(inputs: "Inputs") -> "ReadyEnvironment":
    """Where the harness runs."""
    return inputs.environment(harness_need(inputs.config.engine.name))


def shared_model(inputs: "Inputs", subject: "Checkpoint") -> "Checkpoint | None":
    """The subject where the engine itself loads it: for others the harness loads its own."""
    model = find_engine(inputs.config.engine.name).traits.harness_model
    return subject if model is HarnessModel.hf else None


def num_fewshot_of(inputs: "Inputs", name: str) -> int | None:
    """Examples in a task's prompts; ``None`` for its own number."""
    return inputs.config.tasks.fewshot.get(name, inputs.config.tasks.num_fewshot)


def folders_of(inputs: "Inputs") -> list[Path]:
    """Folders with the user's task files."""
    return [Path(folder).expanduser().resolve() for folder in inputs.config.tasks.include]
