"""Runs on this machine, each in a job of submitit's, so many at a time."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.multirun.launchers.allotment import Allotment
from runner.multirun.launchers.task import RunTask
from runner.planning.hardware.detect import detect
from runner.util.gpus import Gpu, visible_variables
from runner.util.processes import die_with_parent

if TYPE_CHECKING:
    from runner.multirun.launchers.prepare import Prepared


@dataclass
class LocalTask:
    """A run in a job on this machine, with the devices that are its own."""

    task: RunTask
    variables: dict[str, str] = field(default_factory=dict)
    """Of its environment."""
    cpus: tuple[int, ...] = ()
    """Those that it may keep busy; none: all."""

    def __call__(self) -> int:
        """Carry out the run; see ``RunTask``."""
        # Whoever started us takes our GPUs back when our parent is gone.
        die_with_parent()
        os.environ.update(self.variables)
        if self.cpus:
            os.sched_setaffinity(0, self.cpus)
        return self.task()

    def checkpoint(self) -> Any:
        """See ``RunTask``."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Slots:
    """Starts runs in their order where there is room: for one more, and on the GPUs it needs."""

    def __init__(
        self, executor: Any, waiting: "list[Prepared]", limit: int, allotment: Allotment
    ) -> None:
        """Nothing is started before the first look.

        Args:
            executor: Submitit's.
            waiting: Runs, in the order in which they start.
            limit: Runs at a time.
            allotment: Of this machine's GPUs.
        """
        self._executor = executor
        self._waiting = waiting
        self._limit = limit
        self._allotment = allotment
        at_once = min(limit, len(allotment.gpus) // max(1, allotment.least or 1))
        self._cpus = cpu_shares(at_once)
        self._pinned: dict[str, tuple[int, ...]] = {}
        self._started: dict[str, Any] = {}

    def look(self) -> dict[str, str]:
        """Start what there is room for; the state of every run's job."""
        going_on = set()
        for run, job in self._started.items():
            if job.done():
                self._allotment.release(run)
                self._pinned.pop(run, None)
            else:
                going_on.add(run)
        self._start(self._limit - len(going_on))
        states = {run: _state(job) for run, job in self._started.items()}
        return {**states, **{one.run: "PENDING" for one in self._waiting}}

    def _start(self, room: int) -> None:
        withheld: frozenset[Gpu] = frozenset()
        left = []
        for one in self._waiting:
            own = None
            if room > 0:
                own = self._allotment.take(one, withheld)
            if own is None:
                # Or one that needs several would wait for those that need one, to the last.
                withheld |= frozenset(self._allotment.awaited(one))
                left.append(one)
                continue
            room -= 1
            self._started[one.run] = self._executor.submit(self._task(one, own))
        self._waiting = left

    def _task(self, one: "Prepared", own: tuple[Gpu, ...]) -> LocalTask:
        visible = self._allotment.visible_to(one, own)
        cpus: tuple[int, ...] = ()
        if own and one.config.engine.threads is None:
            place = self._allotment.gpus.index(own[0])
            cpus = self._pinned[one.run] = self._free_cpus(place)
        return LocalTask(one.task, visible_variables(visible), cpus)

    def _free_cpus(self, place: int) -> tuple[int, ...]:
        """A share of the CPUs: the one beside a GPU, as far as both count along the machine."""
        free = [share for share in self._cpus if share not in self._pinned.values()]
        if not free:
            return ()
        wanted = self._cpus[place * len(self._cpus) // len(self._allotment.gpus)]
        return wanted if wanted in free else free[0]


def cpu_shares(number: int, root: Path = Path("/")) -> list[tuple[int, ...]]:
    """This process's CPUs in so many equal parts; none where there is but one, or too few.

    Else every run would start as many threads as there are CPUs, and slow the others down. Both
    threads of a core are in one part.
    """
    if number < 2 or not hasattr(os, "sched_setaffinity"):
        return []
    cpus = sorted(os.sched_getaffinity(0), key=lambda cpu: (_core(root, cpu), cpu))
    # A control group may grant less than it shows.
    size = min(len(cpus), detect(root).usable_cores) // number
    step = len(cpus) // number
    return [tuple(cpus[n * step :][:size]) for n in range(number)] if size else []


def _core(root: Path, cpu: int) -> int:
    """Number of the first CPU of the same core."""
    path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    try:
        return int(path.read_text("ascii").replace("-", ",").partition(",")[0])
    except (OSError, ValueError):
        return cpu


def _state(job: Any) -> str:
    # A record that is still open when its process is gone belongs to a failed run.
    return "FAILED" if job.done() else "RUNNING"
