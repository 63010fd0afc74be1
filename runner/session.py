"""What all runs of one control process share: the store, warm workers and the display."""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.environment import Environment
from runner.display import Display
from runner.hardware.detect import Machine, detect
from runner.serialise import to_json
from runner.store.objects import Address, ObjectStore
from runner.worker.pool import WorkerPool
from runner.worker.protocol import Job


@dataclass(frozen=True)
class Obtained:
    """A finished result, made now or found in the store."""

    address: Address
    directory: Path
    result: dict[str, Any]
    resources: dict[str, Any]
    reused: bool
    seconds: float


@dataclass(frozen=True)
class Work:
    """A stage to carry out, and all that its result depends on."""

    stage: str
    title: str
    request: Any
    """The stage's request dataclass."""
    determinants: dict[str, Any]
    """JSON values that determine the result, besides the stage and its schema's version."""
    environment: Environment
    threads: int
    force: bool = False


class Session:
    """Obtains stage results: from the store, or by having a worker make them."""

    def __init__(self, root: Path) -> None:
        """Use the store below ``root``."""
        self.store = ObjectStore(root)
        self.display = Display()
        self.logs = root / "logs"
        self.machine: Machine = detect()
        self._pool = WorkerPool(self.logs)
        self._mentioned: set[Address] = set()

    def close(self) -> None:
        """End all workers."""
        self._pool.__exit__()

    def obtain(self, work: Work) -> Obtained:
        """The result of ``work``.

        Raises:
            WorkerFailed: The stage did not finish; nothing of it is left in the store.
        """
        from runner.stages import find_stage

        stage = find_stage(work.stage)
        address = Address.of(
            work.stage, {"schema_version": stage.schema_version, **work.determinants}
        )
        if not work.force and (found := self._found(address, work.title)):
            return found
        waiting = f"{work.title}: another process is making it; waiting"
        with self.store.locked(address, lambda: self.display.line(f"  {waiting}")):
            # Whoever held the lock may just have made it.
            if not work.force and (found := self._found(address, work.title)):
                return found
            return self._make(address, work)

    def _found(self, address: Address, title: str) -> Obtained | None:
        content = self.store.read(address)
        if content is None:
            return None
        # Texts and baselines are asked for again and again; once is enough to say so.
        if address not in self._mentioned:
            self.display.line(f"  {title}: reused")
        self._mentioned.add(address)
        return Obtained(
            address=address,
            directory=self.store.directory(address),
            result=content["result"],
            resources=content["resources"],
            reused=True,
            seconds=0.0,
        )

    def _make(self, address: Address, work: Work) -> Obtained:
        start = time.monotonic()
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{address.stage}-{address.key}-{uuid.uuid4().hex[:6]}.log"
        with self.store.writing(address) as directory, self.display.stage(work.title) as shown:
            job = Job(
                stage=work.stage,
                request=to_json(work.request),
                output=str(directory),
                cache=str(self.store.cache),
                log=str(log),
                threads=work.threads,
            )
            self._pool.run(
                work.environment,
                job,
                lambda event: (
                    shown.update(event["done"], event["total"], event["what"])
                    if event["event"] == "progress"
                    else None
                ),
            )
        seconds = time.monotonic() - start
        self._mentioned.add(address)
        self.display.line(f"  {work.title}: done in {seconds:.1f} s")
        content = self.store.read(address)
        assert content is not None
        return Obtained(
            address=address,
            directory=self.store.directory(address),
            result=content["result"],
            resources=content["resources"],
            reused=False,
            seconds=seconds,
        )
