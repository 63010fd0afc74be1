"""What validation knows in addition to the configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.config.schema.architecture import Architecture
from runner.config.schema.environment import Environment
from runner.environments.needs import Obstacle
from runner.planning.arithmetic import Arithmetic
from runner.planning.hardware.detect import Machine
from runner.planning.memory import Subject
from runner.util.gpus import Gpu


@dataclass(frozen=True)
class Facts:
    """Facts about the model and the machine, all had without torch."""

    architecture: Architecture
    """The model's dimensions, as far as they are known."""
    quantized_as: str | None
    """``quant_method`` of a model that is quantized already."""
    machine: Machine
    device: str
    """``cpu`` or ``cuda``: what ``engine.device`` resolves to."""
    gpus: tuple[Gpu, ...]
    """Those of the machine that the run uses; none on a CPU."""
    chosen: frozenset[str]
    """Config groups named on the command line or by the sweep."""
    known_tasks: frozenset[str] | None
    """Names of the harness's tasks; ``None`` when none is asked for, or nothing is installed."""
    load_bytes_per_parameter: float
    """What a parameter occupies while the unquantized model is loaded, at most."""
    loads_model: bool = True
    """Whether a stage of the run needs the model's weights."""
    asks_engine: bool = True
    """Whether a stage of the run has the engine load what it looks at."""
    load_narrower: tuple[str, ...] = ()
    """Settings that would make that less, all of them together."""
    parameters: int | None = None
    """Of the model, counted from its dimensions where nobody says."""
    memory: Subject | None = None
    """The model with what its stages take of memory; ``None`` where its size is not known."""
    unreadable: str | None = None
    """Why the model's layers cannot be counted, by its config.json."""
    family_known: bool = True
    """Whether the family of its config.json is known; else it was read as most families are."""
    not_counted: tuple[str, ...] = ()
    """What of the model its parameters leave out."""
    arithmetic: Arithmetic = field(default_factory=lambda: Arithmetic("auto"))
    """In which quality is measured."""
    text_config: Mapping[str, Any] = field(default_factory=dict)
    """Content of the model's config.json (the text part's); of others ``model_type`` at most."""
    code_refusal: str | None = None
    """Why the classes of the model cannot be had: code that is not trusted, or not there."""
    stale_calibration: str | None = None
    """How a checkpoint of the store is out of date with the model it was made from."""
    evaluated_texts: frozenset[tuple[str, str | None]] = frozenset()
    """Name and path of texts that a recipe looks at and that are, by content, the evaluation's."""
    obstacle: Callable[[Environment, str], Obstacle | None] = field(default=lambda *_: None)
    """Why nothing can run in an environment on ``cpu`` or ``cuda``, if so."""
    published_as: str | None = None
    """Recipe of a plan in which the model's weights are, if plans know it."""
    local_text_bytes: dict[str, int] = field(default_factory=dict)
    """Characters, in bytes, of local calibration texts by path, where they were read."""
