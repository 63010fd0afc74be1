"""A Hydra launcher that runs each job of a sweep as a task of a Ray cluster."""

import contextlib
import importlib
import importlib.util
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError
from runner.multirun.launchers.base import ClusterLauncher
from runner.multirun.launchers.task import NOT_BEGUN, RunTask
from runner.store.records import Status, close_record, read_record
from runner.util.secrets.names import is_secret_name
from runner.util.shown import tell
from runner.util.surroundings import ELSEWHERE, SAFE_PATH

if TYPE_CHECKING:
    from runner.multirun.launchers.prepare import Prepared

_CARRIED = ("QUANT_RUNNER_", "HYDRA_", "HF_", "WANDB_", "PYTHONPATH", SAFE_PATH)


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
        num_gpus: float,
        memory_gb: float | None,
        resources: dict[str, float] | None,
    ) -> None:
        """Settings come from ``conf/hydra/launcher/ray.yaml``.

        Args:
            poll_seconds: Seconds between looks at the tasks.
            address: Of a cluster: ``auto`` or ``HOST:PORT``.
            num_cpus: That a run gets.
            num_gpus: That a run gets; a part of one shares it.
            memory_gb: That a run is scheduled with; Ray does not enforce it.
            resources: Custom resources of the cluster that a run asks for.
        """
        super().__init__(poll_seconds)
        self.address = address
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.memory_bytes = int((memory_gb or 0) * 1e9)
        self.resources = dict(resources or {})

    def require(self) -> None:
        """See that Ray is installed.

        Raises:
            UsageError: It is not.
        """
        if importlib.util.find_spec("ray") is None:
            raise UsageError("hydra/launcher=ray needs Ray: pip install 'quant-runner[ray]'")

    def carry_out(self, jobs: "list[Prepared]", sweep: Path, detach: bool) -> None:
        """Run the jobs on the cluster, and wait for them.

        Raises:
            UsageError: There is no such cluster, or Ray does not start here.
        """
        ray: Any = importlib.import_module("ray")
        why = "Ray was not available"
        try:
            self._connect(ray)
            why = "the process that started the sweep ended first"
            self._warn_of_want(ray)
            # A run that failed is a result, and the next start finds what is finished of it.
            remote = ray.remote(
                num_cpus=self.num_cpus, num_gpus=self.num_gpus, memory=self.memory_bytes,
                resources=self.resources, max_retries=0,
            )(_run)  # fmt: skip
            tasks = {
                remote.remote(one.task, str(Path.cwd()), _variables()): one.run for one in jobs
            }
            home = ray.get_runtime_context().get_node_id()
            self.wait(sweep, jobs, lambda: _states(ray, tasks, home, sweep))
        finally:
            ray.shutdown()  # ends the tasks too
            for one in jobs:
                close_record(sweep / one.run / "record.json", Status.interrupted, why)

    def _connect(self, ray: Any) -> None:
        here: dict[str, Any] = {}
        if self.address is None:
            # What a run asks for is granted, be the machine as small as it may.
            processors = max(os.cpu_count() or 1, int(self.num_cpus))
            here = {"num_cpus": processors, "include_dashboard": False}
        try:
            # Ray has its workers import from where it is started.
            with warnings.catch_warnings(action="ignore"), contextlib.chdir(ELSEWHERE):
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

    def _warn_of_want(self, ray: Any) -> None:
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory_bytes}
        wanted = {name: much for name, much in {**wanted, **self.resources}.items() if much}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(k, 0) >= much for k, much in wanted.items()) for node in nodes):
            much = ", ".join(f"{name}: {much:g}" for name, much in wanted.items())
            tell(f"no node of the cluster has {much}; the runs wait for one", error=True)


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
