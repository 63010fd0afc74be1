"""GPUs of this machine for a sweep's runs: a GPU is one run's at a time."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from runner.config.schema.engine import Engine
from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.pipeline.stages import find_stage
from runner.planning.compute import resolve_compute
from runner.planning.compute_for import compute_for
from runner.planning.hardware.detect import Machine, detect
from runner.util.gpus import VISIBLE, Gpu
from runner.util.shown import tell

if TYPE_CHECKING:
    from runner.multirun.launchers.prepare import Prepared

INSTEAD = "hydra/launcher=submitit_local hydra.launcher.gpus_per_run=1"
"""What gives each run a GPU of its own."""


def gpus_used(config: Config, there: bool, machine: Machine | None = None) -> int:
    """How many GPUs a run computes on.

    Args:
        config: The run's.
        there: Whether it finds GPUs, where it takes one if there is one.
        machine: Where it runs, with all GPUs to choose from: an engine may take as many as hold
            its model. ``None``: elsewhere.
    """
    engine = config.engine
    if engine.device == "cpu" or (engine.device == "auto" and not there):
        return 0
    _, asked = engine.shared_by() or ("", 1)
    return asked if machine is None else max(asked, len(compute_for(config, machine).gpus))


def measures(config: Config) -> list[str]:
    """Stages of a run that time."""
    return [name for name in config.stages if find_stage(name).measures]


class Allotment:
    """Which GPUs are free, and which run has the others."""

    def __init__(self, gpus: Sequence[Gpu], least: int | None, setting: str = "") -> None:
        """All of ``gpus`` are free.

        Args:
            gpus: Those that this process may use.
            least: GPUs that a run gets which computes on one; by default as many as it uses.
            setting: The launcher's that says so, with its value.
        """
        self.gpus = tuple(gpus)
        self.least = least
        self._setting = setting or f"hydra.launcher.gpus_per_run={least}"
        self._machine: Machine | None = None
        self._wanted: dict[str, int] = {}
        """By run: some engines look at the model first."""
        self._taken: dict[str, tuple[Gpu, ...]] = {}

    def wanted(self, job: "Prepared") -> int:
        """How many GPUs a run gets."""
        if job.run not in self._wanted:
            self._machine = self._machine or detect().using(self.gpus)
            used = gpus_used(job.config, bool(self.gpus) and self.least != 0, self._machine)
            self._wanted[job.run] = max(used, self.least or 1) if used else 0
        return self._wanted[job.run]

    def look_at(self, jobs: "Sequence[Prepared]") -> None:
        """See that every run can have what it asks for, and say what may surprise.

        Raises:
            UsageError: One cannot.
        """
        setting = self._setting
        if self.least and not self.gpus:
            raise UsageError(f"{setting}, but no GPU answers on this machine{_hidden()}")
        for job in jobs:
            wanted, engine = self.wanted(job), job.config.engine
            if wanted and self.least == 0:
                raise UsageError(
                    f"{setting} leaves {job.run} no GPU for engine.device={engine.device}"
                )
            if len(self._eligible(job)) < wanted:
                raise UsageError(f"{job.run} {self._lacks(engine, wanted)}{_hidden()}")
        if self.least and not any(map(self.wanted, jobs)):
            # No mistake in a batch of a sweep whose other batches do.
            tell(f"{setting} has no effect: none of these runs computes on a GPU", error=True)
        kinds = list(dict.fromkeys(gpu.name for gpu in self.gpus))
        if len(kinds) > 1 and any(measures(job.config) for job in jobs if self._may_vary(job)):
            tell(
                f"the GPUs differ ({', '.join(kinds)}), so speeds of some runs will not be "
                f"compared with others'; {VISIBLE} chooses those that are alike",
                error=True,
            )

    def take(self, job: "Prepared", withheld: frozenset[Gpu]) -> tuple[Gpu, ...] | None:
        """Give a run its GPUs; ``None`` while they are not free.

        Args:
            job: The run.
            withheld: GPUs that runs before it are waiting for.
        """
        wanted = self.wanted(job)
        busy = withheld.union(*self._taken.values())
        free = [gpu for gpu in self._eligible(job) if gpu not in busy]
        if len(free) < wanted:
            return None
        found = self._taken[job.run] = tuple(free[:wanted])
        return found

    def awaited(self, job: "Prepared") -> tuple[Gpu, ...]:
        """The GPUs that runs behind a waiting one must leave to it."""
        return self._eligible(job) if self.wanted(job) else ()

    def release(self, run: str) -> None:
        """Take a run's GPUs back."""
        self._taken.pop(run, None)

    def visible_to(self, job: "Prepared", own: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
        """The GPUs that a run's process finds: its own, or all of which its device names some."""
        return self.gpus if own and _names_one(job.config.engine) else own

    def _may_vary(self, job: "Prepared") -> bool:
        return self.wanted(job) > 0 and not _names_one(job.config.engine)

    def _eligible(self, job: "Prepared") -> tuple[Gpu, ...]:
        wanted, engine = self.wanted(job), job.config.engine
        # A process can use one slice of a GPU.
        gpus = [gpu for gpu in self.gpus if wanted == 1 or not gpu.is_slice]
        if not _names_one(engine):
            return tuple(gpus)
        named = self.gpus[engine.first_gpu :][:wanted]
        return named if all(gpu in gpus for gpu in named) else ()

    def _lacks(self, engine: Engine, wanted: int) -> str:
        name, own = engine.shared_by() or ("", 1)
        many = f"engine.{name}={own}" if own == wanted > 1 else ""
        many = many or (self._setting if wanted > 1 else "")
        one = f"engine.device={engine.device}" if _names_one(engine) else ""
        why = ", ".join(filter(None, (one, many))) or f"engine.device={engine.device}"
        there = len(self.gpus)
        has = f"{there} GPU{'s' * (there != 1)}"
        if wanted > 1 and (slices := sum(gpu.is_slice for gpu in self.gpus)):
            has += f", {slices} of them slices, which work alone"
        return f"asks for more GPUs than there are ({why}): this machine has {has}"


def refuse_sharing(
    launcher: Any, configs: Iterable[Config | None], machine: Machine | None = None
) -> None:
    """See that no launcher of others measures speeds in runs that share a GPU.

    Args:
        launcher: Of a library: it knows nothing of GPUs.
        configs: Of the sweep's runs, where they are known.
        machine: This one by default.

    Raises:
        UsageError: It would.
    """
    at_once = (getattr(launcher, "joblib", None) or {}).get("n_jobs", 1)
    if at_once == 1:
        return
    machine = machine or detect()
    for config in configs:
        if config is None:
            continue
        if (timed := measures(config)) and resolve_compute(config.engine, machine).gpus:
            raise UsageError(
                f"hydra.launcher.n_jobs={at_once}: {', '.join(timed)} would measure speeds of runs "
                f"that share a GPU; give each its own with {INSTEAD}, or hydra.launcher.n_jobs=1"
            )


def _names_one(engine: Engine) -> bool:
    return ":" in engine.device


def _hidden() -> str:
    limit = os.environ.get(VISIBLE)
    return "" if limit is None else f" ({VISIBLE}={limit} decides which may be used)"
