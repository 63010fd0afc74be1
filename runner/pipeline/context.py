"""The context of a run: what its stages read, and where they file results."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from runner.config.schema.root import Config
from runner.pipeline.checkpoint import Checkpoint
from runner.pipeline.inputs import Inputs
from runner.pipeline.stage_job import StageResult
from runner.pipeline.stages.jobs.model import locate_model
from runner.store.records import BASELINE, RECIPE

if TYPE_CHECKING:
    from runner.pipeline.session import Session
    from runner.validation.context import Facts

Keep = Callable[[str, str, StageResult[Any]], None]
"""Files a result: the stage's name, whose it is, and the result."""
Section = TypeVar("Section")


class RunContext:
    """What a run's stages share."""

    def __init__(
        self,
        config: Config,
        session: "Session",
        sweep: str,
        warnings: list[str] | None = None,
        *,
        facts: "Facts | None" = None,
        keep: Keep = lambda *_: None,
        ruled_out: Callable[[], str | None] = lambda: None,
        only_looks: bool = False,
    ) -> None:
        """Begin with the unquantized model.

        Args:
            config: The run's.
            session: Where results come from.
            sweep: Id under which the run is filed.
            warnings: Of the run's record; what stages warn of is added.
            facts: What validation went by; ``None`` in dry runs.
            keep: Files a result.
            ruled_out: Tells which limits of ``decide`` the recipe does not meet by what was filed.
            only_looks: A dry run: nothing is made, noted or reported.
        """
        self.config = config
        self.session = session
        self.facts = facts
        self.keep = keep
        self.ruled_out = ruled_out
        self.inputs = Inputs(config, session, sweep, warnings)
        self.inputs.only_looks = only_looks
        self._made: Checkpoint | None = None

    @cached_property
    def model(self) -> Checkpoint:
        """The unquantized model, or whatever ``model`` names, on this machine's disk."""
        return locate_model(self.inputs)

    @property
    def checkpoint(self) -> Checkpoint:
        """What the run is about: the recipe's checkpoint, or the model where none is made.

        Its KV cache is the run's, that of the unquantized model as the engine has it by itself.
        """
        return replace(self._made or self.model, kv_cache=self.config.kv_cache)

    def hand_on(self, made: Checkpoint) -> None:
        """Have the stages that follow look at a checkpoint that was just made."""
        self._made = None if made is self.model else made

    @property
    def quantized_here(self) -> bool:
        """Whether the checkpoint is another than the model."""
        return self._made is not None

    @property
    def has_recipe(self) -> bool:
        """Whether there is more to look at than the unquantized model: a checkpoint, or a cache."""
        return self.quantized_here or not self.config.kv_cache.is_auto

    @property
    def has_baseline(self) -> bool:
        """Whether there is an unquantized model: one that came quantized has none."""
        return self.quantized_here or self.model.format == "float"

    @property
    def whose(self) -> str:
        """Under which name results of ``checkpoint`` are filed."""
        return RECIPE if self.has_recipe or not self.has_baseline else BASELINE

    def checkpoints(self, *, baseline: bool = True) -> list[tuple[str, Checkpoint]]:
        """The unquantized model and what was made of it, each with whose results are filed under.

        Args:
            baseline: Whether the unquantized model is wanted beside a recipe's checkpoint.
        """
        own = [(self.whose, self.checkpoint)]
        beside = baseline and self.has_recipe and self.has_baseline
        return [(BASELINE, self.model), *own] if beside else own

    def asks_for(self, stage: str) -> bool:
        """Whether the run goes through a stage."""
        return stage in self.config.stages

    def section(self, kind: type[Section]) -> Section:
        """The section of the configuration that is of a type: a stage's own settings."""
        return next(one for one in vars(self.config).values() if isinstance(one, kind))


@dataclass(frozen=True)
class Expected:
    """What a run is going to look at, as far as the configuration alone tells, by labels.

    The model is taken to be unquantized, and to be of the float type that method ``none`` makes.
    """

    config: Config
    model: list[str]
    own: list[str]
    """Of the checkpoint that the run is about."""

    @property
    def both(self) -> list[str]:
        """The model's, and the recipe's where it makes another checkpoint."""
        return [*self.model, *self.own] if self.config.has_recipe else self.model

    @property
    def timed(self) -> list[str]:
        """What speed is measured of."""
        return self.both if self.config.bench.baseline else self.own
