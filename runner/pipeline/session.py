"""State shared by all runs of one control process: store, warm workers and display."""

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from runner.config.schema.environment import Environment
from runner.config.schema.store import Verify
from runner.environments.manager import EnvironmentManager
from runner.environments.ready import ReadyEnvironment
from runner.errors import StageError
from runner.pipeline.clock import Clock
from runner.pipeline.compared import Compared
from runner.pipeline.observers import Display, StageDisplay, StartTracker
from runner.pipeline.stage_job import Result, StageJob, StageResult, WorkerTask
from runner.pipeline.stages import stage_names
from runner.pipeline.worker.pool import WorkerPool, kept_workers
from runner.pipeline.worker.protocol import Job
from runner.planning.hardware.detect import Machine, detect
from runner.store.disk_errors import disk_errors_explained
from runner.store.objects import RESULT_FILE, Address, ObjectStore, add_finding
from runner.store.provenance import write_seal
from runner.store.records import RunRecord
from runner.util.redact import redact
from runner.util.serialise import to_json


class Session:
    """Obtains stage results: from the store, or by having a worker make them."""

    def __init__(
        self, root: Path, environments: Path, display: Display, start_tracker: StartTracker
    ) -> None:
        """Use the store below ``root``, and virtual environments below ``environments``."""
        self.store = ObjectStore(root)
        self.display = display
        self.start_tracker = start_tracker
        self.logs = root / "logs"
        self.machine: Machine = detect()
        self._pool = kept_workers() or WorkerPool()
        self._manager = EnvironmentManager(environments, self.logs)
        self._environments: dict[tuple[str, str | None], ReadyEnvironment] = {}
        self._mentioned: set[Address] = set()
        self.verify = Verify.auto
        """When what is reused is compared with its digests: ``store.verify``."""
        self.warn: Callable[[str], None] = self._say_warning
        """Told what a user and a run's record ought to know."""
        self.listener: Callable[[str, int, int, str], None] | None = None
        """Told of every stage's title, finished units, all units, and phase."""
        self.clock = Clock(root, self.machine)

    def ruled_out(self, record: RunRecord) -> str | None:
        """Which limits of ``decide`` a run's recipe is known not to meet; whoever reports knows."""
        return None

    def _say_warning(self, warning: str) -> None:
        self.display.line(f"  warning: {warning}", style="yellow")

    def close(self) -> None:
        """End all workers, or have those that other sessions share let go of their models."""
        self.display.close()
        if self._pool is kept_workers():
            self._pool.release()
        else:
            self._pool.__exit__()

    def environment(self, environment: Environment, device: str | None = None) -> ReadyEnvironment:
        """An environment ready for use, made now when it is not there.

        Args:
            environment: Which.
            device: Where it is to compute: see ``EnvironmentManager.state``.

        Raises:
            StageError: It cannot be made.
            UsageError: It names an interpreter that does not run.
        """
        key = environment.name, device
        ready = self._environments.get(key)
        if ready is None:
            ready = self._manager.find(environment, device) or self._make_environment(environment)
            self._environments[key] = ready
        return ready

    def ready(self, environment: Environment, device: str | None = None) -> ReadyEnvironment | None:
        """As ``environment``; ``None`` for one that is not there, which is not made."""
        known = self._environments.get((environment.name, device))
        return known or self._manager.find(environment, device)

    def _make_environment(self, environment: Environment) -> ReadyEnvironment:
        title = f"environment {environment.name}"
        waiting = f"  {title}: another process is creating it; waiting"
        start = time.monotonic()
        with self.display.stage(title) as shown:
            ready = self._manager.obtain(
                environment,
                lambda: self.display.line(waiting),
                lambda text: shown.update(0, 1, text),
            )
        self.display.line(f"  {title}: made in {time.monotonic() - start:.1f} s", detail=True)
        return ready

    def obtain(self, work: StageJob[Result]) -> StageResult[Result]:
        """The result of ``work``.

        Raises:
            WorkerFailed: The stage did not finish; nothing of it is left in the store.
            StageError: The store's disk is full or cannot be written to.
        """
        address = work.address
        if not work.force and (stored := self._found(address, work)):
            return stored

        def on_wait() -> None:
            self.display.line(f"  {work.title}: another process is creating it; waiting")
            # Whoever makes it may need the memory.
            self._pool.release()

        with disk_errors_explained(self.store.root), contextlib.ExitStack() as lock:
            try:
                lock.enter_context(self.store.locked(address, on_wait))
            except OSError:
                # What is only read from can be checked and reused all the same.
                if not work.force and self._is_sound(address, work):
                    return self._reused(address, work)
                raise
            # Whoever held the lock may just have made or checked it.
            if not work.force and (stored := self._found(address, work)):
                return stored
            if not work.force and self._is_sound(address, work):
                return self._reused(address, work)
            return self._make(address, work)

    def _found(self, address: Address, work: StageJob[Result]) -> StageResult[Result] | None:
        """What is there and need not be compared with its digests now."""
        if self.verify is Verify.always or not self.store.is_as_checked(address):
            return None
        try:
            return self._reused(address, work)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def _is_sound(self, address: Address, work: StageJob[Any]) -> bool:
        """Whether a result is there and is what its digests say; one that is not is set aside.

        Raises:
            StageError: It is damaged and cannot be moved.
        """
        if not self.store.holds(address):
            return False
        with Compared(self.display, work.title) as compared:
            faults = self.store.faults(address, compared)
        if not faults:
            return True
        what = f"{work.title}: {address} is damaged ({faults[0]}{', …' if faults[1:] else ''})"
        try:
            place = self.store.set_aside(address)
        except OSError as error:
            raise StageError(
                f"{what} and cannot be set aside ({os.strerror(error.errno or 0).lower()}): "
                f"delete {self.store.directory(address)}"
            ) from error
        self.warn(f"{what}: it was moved to {place} and will be recomputed")
        return False

    def _reused(self, address: Address, work: StageJob[Result]) -> StageResult[Result]:
        content = self.store.read(address)
        assert content is not None
        # Texts and baselines are asked for again and again; once is enough to say so.
        if address not in self._mentioned:
            self.display.line(f"  {work.title}: reused", detail=True)
        self._mentioned.add(address)
        return StageResult(
            title=work.title,
            stage=work.task.stage,
            address=address,
            directory=self.store.directory(address),
            content=content["result"],
            resources=content["resources"],
            environment=work.task.environment.name,
            versions=work.determinants.get("versions", {}),
            reused=True,
            seconds=0.0,
        )

    def _make(self, address: Address, work: StageJob[Result]) -> StageResult[Result]:
        start = time.monotonic()
        if work.force:
            shutil.rmtree(self.store.partial(address), ignore_errors=True)
        with self.store.writing(address) as directory, self._shown(work) as shown:
            self._carry_out(work.task, address, directory / RESULT_FILE, shown)
            if work.inspection is not None:
                task = work.inspection(directory)
                self._carry_out(task, address, directory / f"{task.stage.name}.json", shown)
                add_finding(directory, task.stage.name)
            write_seal(directory, redact(work.determinants))
        seconds = time.monotonic() - start
        self.clock.took(work.task.stage.name, work.title, seconds)
        self._mentioned.add(address)
        self.display.line(f"  {work.title}: done in {seconds:.1f} s", detail=True)
        content = self.store.read(address)
        assert content is not None
        return StageResult(
            title=work.title,
            stage=work.task.stage,
            address=address,
            directory=self.store.directory(address),
            content=content["result"],
            resources=content["resources"],
            environment=work.task.environment.name,
            versions=work.determinants.get("versions", {}),
            reused=False,
            seconds=seconds,
        )

    def _shown(self, work: StageJob[Any]) -> AbstractContextManager[StageDisplay]:
        stage, environment = work.task.stage.name, work.task.environment.name
        expected = self.clock.expects(stage, work.title)
        if expected is not None and not self._pool.is_warm(environment):
            expected += self.clock.starts(environment) or 0.0
        is_step = stage in stage_names()
        return self.display.stage(work.title, is_step=is_step, expected_seconds=expected)

    def _carry_out(
        self, task: WorkerTask[Any], address: Address, result: Path, shown: StageDisplay
    ) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{address.stage}-{address.key}-{uuid.uuid4().hex[:6]}.log"
        job = Job(
            stage=task.stage.name,
            request=to_json(task.request),
            output=str(result.parent),
            result_file=result.name,
            partial=str(self.store.partial(address)),
            cache=str(self.store.cache),
            log=str(log),
            directory=str(Path.cwd()),
            threads=task.threads,
            model=task.model,
            beside=task.stage.runs_beside,
        )

        cold = not self._pool.is_warm(task.environment.name)
        begun = time.monotonic()

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "started" and cold:
                self.clock.started(task.environment.name, time.monotonic() - begun)
            elif event["event"] == "progress":
                state = (event["done"], event["total"], event["what"])
                shown.update(*state)
                if self.listener is not None:
                    self.listener(shown.title, *state)

        self._pool.run(task.environment, task.gpus, job, on_event)
