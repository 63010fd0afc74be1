"""The root of the configuration."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import bounded
from runner.config.schema.audit import Audit
from runner.config.schema.bench import Bench
from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.claims import Claim
from runner.config.schema.compare import Compare
from runner.config.schema.decide import Decide
from runner.config.schema.engine import Engine
from runner.config.schema.environment import Environment
from runner.config.schema.eval import Eval
from runner.config.schema.gate import Gate
from runner.config.schema.group_size import GroupSize
from runner.config.schema.hardware import Hardware
from runner.config.schema.kv_cache import KvCache
from runner.config.schema.launch import Launch
from runner.config.schema.method import Method
from runner.config.schema.model import Model
from runner.config.schema.plan import Plan
from runner.config.schema.release import Release
from runner.config.schema.report import Report
from runner.config.schema.sensitivity import Sensitivity
from runner.config.schema.serving import Serving
from runner.config.schema.store import Store
from runner.config.schema.tasks import Tasks
from runner.config.schema.tracker import Tracker
from runner.util.extensions import Kind, names


class StageName(StrEnum):
    """The stages that rules of validation and of a run speak about, by name.

    No list of all there are: see ``runner.pipeline.stages.stage_names``.
    """

    quantize = "quantize"
    eval = "eval"
    tasks = "tasks"
    bench = "bench"
    plan = "plan"
    sensitivity = "sensitivity"
    serving = "serving"
    report = "report"
    compare = "compare"
    gate = "gate"
    audit = "audit"


def _stages() -> tuple[str, ...]:
    return tuple(names(Kind.stage))


@dataclass
class Config:
    """Root of the configuration; every config group is one field."""

    model: Model = field(default_factory=Model)
    method: Method = field(default_factory=Method)
    bits: Bits = field(default_factory=Bits)
    group_size: GroupSize = field(default_factory=GroupSize)
    calibration: Calibration = field(default_factory=Calibration)
    engine: Engine = field(default_factory=Engine)
    kv_cache: KvCache = field(default_factory=KvCache)
    hardware: Hardware = field(default_factory=Hardware)
    environment: dict[str, Environment] = field(default_factory=dict)
    eval: Eval = field(default_factory=Eval)
    tasks: Tasks = field(default_factory=Tasks)
    bench: Bench = field(default_factory=Bench)
    plan: Plan = field(default_factory=Plan)
    sensitivity: Sensitivity = field(default_factory=Sensitivity)
    serving: Serving = field(default_factory=Serving)
    tracker: Tracker = field(default_factory=Tracker)
    store: Store = field(default_factory=Store)
    launch: Launch = field(default_factory=Launch)

    decide: Decide = field(default_factory=Decide)
    audit: Audit = field(default_factory=Audit)
    compare: Compare = field(default_factory=Compare)
    gate: Gate = field(default_factory=Gate)
    report: Report = field(default_factory=Report)
    release: Release = field(default_factory=Release)

    stages: list[str] = bounded(MISSING, choices=_stages)
    """Stages to run, in any order."""
    force: list[str] = bounded(factory=list, choices=_stages)
    """Stages to recompute even if the store has their result."""
    claims: list[Claim] = field(default_factory=list)
    """Claims to test against the sweep's results."""
    dry_run: bool = False
    """Print the planned runs without executing them."""
    sweep: Optional[str] = bounded(None, shortened=True)
    """Name under which records are stored; the date and time by default."""

    @property
    def makes_checkpoint(self) -> bool:
        """Whether it quantizes the model, not only names the model as it is."""
        return StageName.quantize in self.stages and not self.method.is_identity

    @property
    def has_checkpoint(self) -> bool:
        """Whether it looks at another checkpoint than the model: one that it makes or audits."""
        return self.makes_checkpoint or StageName.audit in self.stages

    @property
    def has_recipe(self) -> bool:
        """Whether it looks at more than the model: another checkpoint, or another KV cache."""
        return self.has_checkpoint or not self.kv_cache.is_auto

    @property
    def model_label(self) -> str:
        """What the model is called beside what is made of it, or alone."""
        beside = {StageName.quantize, StageName.audit}.intersection(self.stages)
        return "unquantized" if beside else self.model.name
