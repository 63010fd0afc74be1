"""A Hydra launcher that runs each job of a sweep as a task of a Ray cluster."""

import contextlib
import importlib
import importlib.util
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError
from runner.multirun.launchers.allotment import Allotment, gpus_used, measures
from runner.multirun.launchers.base import ClusterLauncher
from runner.multirun.launchers.task import NOT_BEGUN, RunTask
from runner.planning.hardware.detect import detect
from runner.store.records import Status, close_record, read_record
from runner.util.gpus import VISIBLE, visible_gpus, visible_variables
from runner.util.secrets.names import is_secret_name
from runner.util.shown import tell
from runner.util.surroundings import ELSEWHERE, SAFE_PATH

if TYPE_CHECKING:
    from runner.multirun.launchers.prepare import Prepared

_CARRIED = ("QUANT_RUNNER_", "HYDRA_", "HF_", "WANDB_", "PYTHONPATH", SAFE_PATH)
_UNSET = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"


class RayLauncher(ClusterLauncher):
    """Hands a sweep's jobs to Ray, which starts each where the resources it asks for are free.

    Without an address a Ray of this machine is started for the sweep.
    """

    # Hydra takes plugins only from a package of this name: runner/multirun/plugins has it.
    __module__ = "hydra_plugins.quant_runner"

    def __init__(
        self,
        *,
        poll_seconds: float,
        address: str | None,
        num_cpus: float,
        num_gpus: float | None = None,
        gpus_per_run: float | None = None,
        memory_gb: float | None,
        resources: dict[str, float] | None,
    ) -> None:
        """Settings come from ``conf/hydra/launcher/ray.yaml``.

        Args:
            poll_seconds: Seconds between looks at the tasks.
            address: Of a cluster: ``auto`` or ``HOST:PORT``.
            num_cpus: That a run gets.
            num_gpus: Ray's name of ``gpus_per_run``.
            gpus_per_run: GPUs that a run gets which computes on one, by default as many as it uses.
                A part of one lets runs share it; zero hides them from all runs.
            memory_gb: That a run is scheduled with; Ray does not enforce it.
            resources: Custom resources of the cluster that a run asks for.
        """
        super().__init__(poll_seconds)
        self.address = address
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.gpus_per_run = gpus_per_run
        self.memory_bytes = int((memory_gb or 0) * 1e9)
        self.resources = dict(resources or {})

    def require(self) -> None:
        """See that Ray is installed, and that the settings make sense.

        Raises:
            UsageError: It is not, or one does not.
        """
        if importlib.util.find_spec("ray") is None:
            raise UsageError("hydra/launcher=ray needs Ray: pip install 'quant-runner[ray]'")
        self._require_settings()

    def _require_settings(self) -> None:
        if self.num_gpus is not None and self.gpus_per_run is not None:
            raise UsageError("hydra.launcher.num_gpus is gpus_per_run by another name: set one")
        if (least := self._least) is not None and (least < 0 or (least > 1 and least % 1)):
            raise UsageError(f"{self._setting} must be a whole number, or a part of one GPU")

    def look_at(self, jobs: "list[Prepared]") -> None:
        """See that Ray can grant what every run asks for, and that no speed is one of a shared GPU.

        Raises:
            UsageError: It cannot, or one is.
        """
        shares = self._least is not None and 0 < self._least < 1
        for job in jobs:
            config = job.config
            if self._least != 0 and config.engine.first_gpu:
                raise UsageError(
                    f"{job.run} names engine.device={config.engine.device}, but Ray chooses the "
                    f"GPUs of a run: engine.device=cuda, and {VISIBLE} for those to choose from"
                )
            if shares and gpus_used(config, True) and (timed := measures(config)):
                raise UsageError(
                    f"{self._setting}: {', '.join(timed)} would measure speeds of runs that share "
                    "a GPU; hydra.launcher.gpus_per_run=1 gives each its own"
                )
        if self.address is None:
            least = None if self._least is None else math.ceil(self._least)
            Allotment(visible_gpus(), least, self._setting).look_at(jobs)
            if visible_gpus() and self._least != 0 and os.environ.get(_UNSET):
                raise UsageError(f"with {_UNSET} Ray gives all runs all GPUs: unset it")

    @property
    def _least(self) -> float | None:
        return self.num_gpus if self.gpus_per_run is None else self.gpus_per_run

    @property
    def _setting(self) -> str:
        name = "num_gpus" if self.gpus_per_run is None else "gpus_per_run"
        return f"hydra.launcher.{name}={self._least}"

    def _gpus_of(self, job: "Prepared", there: bool) -> float:
        """How many GPUs, or which part of one, a run gets."""
        # What was asked for is waited for, be it not there yet.
        here = detect() if self.address is None else None
        used = gpus_used(job.config, there if self._least is None else self._least > 0, here)
        if self._least is None or used == 0:
            return used
        return self._least if used == 1 else max(used, self._least)

    def carry_out(self, jobs: "list[Prepared]", sweep: Path, detach: bool) -> None:
        """Run the jobs on the cluster, and wait for them.

        Raises:
            UsageError: There is no such cluster, or Ray does not start here.
        """
        ray: Any = importlib.import_module("ray")
        why = "Ray was not available"
        try:
            self._connect(ray, jobs)
            why = "the process that started the sweep ended first"
            there = any(node["Resources"].get("GPU") for node in ray.nodes() if node["Alive"])
            gpus = {one.run: self._gpus_of(one, there) for one in jobs}
            for much in sorted(set(gpus.values())):
                self._warn_of_want(ray, much)
            # A run that failed is a result, and the next start finds what is finished of it.
            remote = ray.remote(
                num_cpus=self.num_cpus, memory=self.memory_bytes, resources=self.resources,
                max_retries=0,
            )(_run)  # fmt: skip
            tasks = {
                remote.options(num_gpus=gpus[one.run]).remote(
                    one.task, str(Path.cwd()), _variables()
                ): one.run
                for one in jobs
            }
            home = ray.get_runtime_context().get_node_id()
            self.wait(sweep, jobs, lambda: _states(ray, tasks, home, sweep))
        finally:
            ray.shutdown()  # ends the tasks too
            for one in jobs:
                close_record(sweep / one.run / "record.json", Status.interrupted, why)

    def _connect(self, ray: Any, jobs: "list[Prepared]") -> None:
        here: dict[str, Any] = {}
        names: dict[str, str] = {}
        if self.address is None:
            gpus = visible_gpus()
            at_once = 1
            if any(self._gpus_of(job, bool(gpus)) for job in jobs):
                # As many as the GPUs allow, be there too few processors for them.
                at_once = max(1, int(len(gpus) / (self._least or 1)))
                # Ray would count cards where these are slices of them, and hands on names as given.
                names = visible_variables(gpus)
            # What a run asks for is granted, be the machine as small as it may.
            processors = max(os.cpu_count() or 1, math.ceil(at_once * self.num_cpus))
            here = {"num_cpus": processors, "num_gpus": len(gpus), "include_dashboard": False}
        try:
            # Ray has its workers import from where it is started.
            with (
                warnings.catch_warnings(action="ignore"),
                contextlib.chdir(ELSEWHERE),
                _environment(names),
            ):
                ray.init(
                    address=self.address or "local", log_to_driver=False,
                    logging_level="error", **here,
                )  # fmt: skip
        except Exception as error:  # Ray raises a bare one when its processes do not come up
            raise UsageError(
                f"hydra.launcher.address={self.address or 'null'}: "
                f"{(str(error).splitlines() or [type(error).__name__])[0]} "
                "(Ray's own logs: /tmp/ray/session_latest/logs; docs/clusters.md)"
            ) from None

    def _warn_of_want(self, ray: Any, gpus: float) -> None:
        wanted = {"CPU": self.num_cpus, "GPU": gpus, "memory": self.memory_bytes}
        wanted = {name: much for name, much in {**wanted, **self.resources}.items() if much}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(k, 0) >= much for k, much in wanted.items()) for node in nodes):
            much = ", ".join(f"{name}: {much:g}" for name, much in wanted.items())
            tell(f"no node of the cluster has {much}; the runs wait for one", error=True)


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """With these variables in this process's environment, which processes that it starts get."""
    kept = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in kept.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _variables() -> dict[str, str]:
    """Variables of this process that a task is given; credentials stay, as Ray shows much."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_CARRIED) and not is_secret_name(name)
    }


def _run(task: RunTask, directory: str, variables: dict[str, str]) -> int:
    # Not by Ray's runtime_env, whose agent would have to be up before the first task.
    os.environ.update(variables)
    # Configuration of the user's own lies below it.
    if Path(directory).is_dir():
        os.chdir(directory)
    return task()


def _states(ray: Any, tasks: dict[Any, str], home: str, sweep: Path) -> dict[str, str]:
    """State of every run's task, in Slurm's words."""
    over, going_on = ray.wait(list(tasks), num_returns=len(tasks), timeout=0)
    # Ray itself would wait for ever once the node that we belong to is gone.
    if not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == home):
        states = {tasks[task]: "NODE_FAIL" for task in going_on}
    else:
        states = {tasks[task]: _begun(sweep / tasks[task]) for task in going_on}
    for task in over:
        states[tasks[task]] = _end(ray, task)
    return states


def _begun(run: Path) -> str:
    record = read_record(run / "record.json")
    waits = record is None or record.reason == NOT_BEGUN
    return "PENDING" if waits else "RUNNING"


def _end(ray: Any, task: Any) -> str:
    try:
        ray.get(task)
    except ray.exceptions.OutOfMemoryError:
        return "OUT_OF_MEMORY"
    except (ray.exceptions.NodeDiedError, ray.exceptions.LocalRayletDiedError):
        return "NODE_FAIL"
    except ray.exceptions.TaskCancelledError:
        return "CANCELLED"
    except ray.exceptions.RayError:
        return "FAILED"
    return "COMPLETED"
