"""Gathers the facts that validation needs, without torch."""

from collections.abc import Callable
from pathlib import Path

from runner.config.schema.engine import Dtype
from runner.config.schema.environment import Environment
from runner.config.schema.root import Config, StageName
from runner.config.schema.text import Text
from runner.data.models.locate import code_refusal, require_weights
from runner.data.texts.files import text_path
from runner.data.texts.precheck import precheck
from runner.data.texts.source import source_of
from runner.environments.choose import choose
from runner.environments.manager import EnvironmentManager
from runner.environments.needs import Obstacle
from runner.environments.obstacle import obstacle
from runner.errors import UsageError
from runner.evaluation.lm_eval.environment import harness_need, package_folders
from runner.evaluation.lm_eval.names import harness_tasks, task_names
from runner.methods import used_recipe
from runner.pipeline.stages import asks_engine, loads_model
from runner.pipeline.stages.sensitivity import needed_sensitivity
from runner.pipeline.staleness import stale_calibration
from runner.planning.arithmetic import (
    FLOAT32,
    Arithmetic,
    evaluated_checkpoints,
    quality_arithmetic,
)
from runner.planning.compute import DTYPE_BITS, Compute
from runner.planning.compute_for import compute_for, subject_of
from runner.planning.hardware.detect import Machine
from runner.planning.model_facts import model_facts
from runner.util.given import user_path
from runner.validation.context import Facts


def gather_facts(config: Config, machine: Machine, overrides: list[str]) -> Facts:
    """Facts about the model and the machine.

    Raises:
        UsageError: A local model's directory is not one, or a text's file is missing, empty
            or not what its reader reads.
    """
    texts = [part.text for part in config.calibration.parts]
    for text in (*texts, config.eval.text, config.sensitivity.text):
        if text is not None and text.path:
            text_path(text.name, text.path)
    local_text_bytes = {
        text.path: size
        for text in _texts_read(config)
        if text.path is not None and (size := precheck(text)) is not None
    }
    model = model_facts(config.model, fetch=StageName.plan in config.stages)
    if model.hf_config and loads_model(config):
        require_weights(config.model)
    compute = compute_for(config, machine, model)
    checkpoints = evaluated_checkpoints(
        config, model.quantized_as, model.text_config, compute.device, compute.gpus
    )
    arithmetic = quality_arithmetic(config, compute, model.parameters, checkpoints)
    widest = _widest(config, compute, arithmetic)
    named = {override.lstrip("+~").split("=")[0] for override in overrides}
    if StageName.sensitivity in config.stages:
        # Read without a recipe too.
        named.discard("method.rounding_dtype")
    chosen = (name.split(".")[0] for name in named)
    works = loads_model(config)
    return Facts(
        architecture=model.architecture,
        parameters=model.parameters,
        memory=subject_of(config, compute, model),
        quantized_as=model.quantized_as,
        unreadable=model.unreadable,
        family_known=model.family_known,
        not_counted=model.not_counted,
        published_as=model.published_as,
        loads_model=works,
        asks_engine=asks_engine(config),
        machine=machine,
        device=compute.device,
        gpus=compute.gpus,
        chosen=frozenset(chosen),
        known_tasks=_known_tasks(config, compute.device),
        obstacle=_obstacles(config),
        local_text_bytes=local_text_bytes,
        evaluated_texts=_evaluated(config, [*texts, config.sensitivity.text]),
        arithmetic=arithmetic,
        load_bytes_per_parameter=max(widest.values(), default=16.0) / 8,
        load_narrower=tuple(
            setting for setting, bits in widest.items() if bits == DTYPE_BITS[FLOAT32]
        ),
        text_config=model.text_config,
        code_refusal=code_refusal(config.model)
        if model.hf_config and loads_model(config)
        else None,
        stale_calibration=stale_calibration(config) if model.quantized_as else None,
    )


def _evaluated(config: Config, texts: list[Text]) -> frozenset[tuple[str, str | None]]:
    """Name and path of those that are also what is evaluated."""
    if not {StageName.quantize, StageName.eval} <= {*config.stages}:
        return frozenset()
    evaluated = source_of(config.eval.text)
    return frozenset((text.name, text.path) for text in texts if source_of(text) == evaluated)


def _texts_read(config: Config) -> list[Text]:
    """The texts that the run reads: what of a wrong file is told, is told before any work."""
    texts: list[Text] = []
    quantizes = StageName.quantize in config.stages
    if quantizes and (calibration := used_recipe(config).calibration) is not None:
        texts += [part.text for part in calibration.parts]
    # A fresh checkpoint is looked at on the evaluation's text.
    if quantizes or StageName.eval in config.stages:
        texts.append(config.eval.text)
    if StageName.sensitivity in config.stages or (quantizes and needed_sensitivity(config)):
        texts.append(config.sensitivity.text)
    return texts


def _widest(config: Config, compute: Compute, arithmetic: Arithmetic) -> dict[str, float]:
    """Bits of a weight of the unquantized model as stages load it; 16 for what is not known here.

    By the setting that makes it narrower.
    """
    stages, found = {*config.stages}, {}
    if stages & {StageName.bench, StageName.serving}:
        found["engine.dtype=bfloat16"] = compute.dtype
    if stages & {StageName.eval, StageName.tasks}:
        found["eval.dtype=bfloat16"] = arithmetic.dtype
    if StageName.sensitivity in stages or config.makes_checkpoint:
        # On a GPU auto is float32 only where there is room for it.
        asked, unknown = config.method.rounding_dtype, Dtype.auto.value
        found["method.rounding_dtype=bfloat16"] = (
            unknown
            if asked is Dtype.auto and compute.device != "cpu"
            else compute.rounding_dtype(asked, unknown, None)
        )
    return {setting: DTYPE_BITS.get(dtype, 16.0) for setting, dtype in found.items()}


def _obstacles(config: Config) -> Callable[[Environment, str], Obstacle | None]:
    """Looks into environments when it is asked: most need not be."""
    root = Path(config.store.environments).expanduser().resolve()
    manager = EnvironmentManager(root, root)

    def found(environment: Environment, device: str) -> Obstacle | None:
        try:
            return obstacle(environment, manager, device)
        except UsageError as error:  # an interpreter of one's own that does not run
            return Obstacle(str(error), f"environment.{environment.name}.python=null")

    return found


def _known_tasks(config: Config, device: str) -> frozenset[str] | None:
    """Names of the harness's tasks, read off its files: a second, and only if one is asked for."""
    tasks = config.tasks
    foreign = [name for name in tasks.names if name not in tasks.own]
    if not foreign or StageName.tasks not in config.stages:
        return None
    try:
        environment = choose(config.environment, harness_need(config.engine.name), device)
        root = Path(config.store.environments).expanduser().resolve()
        ready = EnvironmentManager(root, root).find(environment, device)
    except UsageError:  # a rule of legality speaks about it
        return None
    folder = harness_tasks(package_folders(ready)) if ready else None
    if folder is None:
        return None
    own = [user_path(path, "tasks.include") for path in tasks.include]
    return task_names(folder).union(*(task_names(path) for path in own))
