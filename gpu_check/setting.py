"""The machine, the store and the command lines of the checks."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_check.outcome import Budget, NotPossible, RunFailed
from runner.planning.hardware.detect import Machine
from runner.store.records import RunRecord, Status, read_records
from runner.util.gpus import ORDER, Gpu, visible_variables

CHECKOUT = Path(__file__).resolve().parent.parent
BASE = ("tracker=none", "text@eval.text=python_code")
"""No text and no tracker that would need a network."""
_TAIL = 25
_PATIENCE = 5.0


@dataclass
class Setting:
    """What all checks share."""

    machine: Machine
    device: str
    """``cuda``; ``cpu`` in a rehearsal."""
    overrides: tuple[str, ...]
    """The user's, passed to every run."""
    store: Path
    environments: Path
    scratch: Path
    """Where runs start, so that nothing of the checkout's working directory takes part."""
    budget: Budget
    patience: float = 1.0
    """Factor of every limit: CPUs on which a rehearsal is made may be slow."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the report tells beside the outcomes, by topic."""
    records: dict[str, list[RunRecord]] = field(default_factory=dict)
    """Of the runs that were started, by their name."""
    commands: dict[str, str] = field(default_factory=dict)

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The visible GPUs; none in a rehearsal on a CPU."""
        return self.machine.gpus if self.device == "cuda" else ()

    @property
    def runs(self) -> Path:
        """Where records lie."""
        return self.store / "runs"

    def arguments(self, *arguments: str) -> list[str]:
        """A run's overrides, the user's last."""
        device = ("engine.device=cpu",) if self.device == "cpu" else ()
        return [*BASE, *device, *arguments, *self.overrides]

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of runs and of probes."""
        path = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
        return {
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            **ORDER,
            "QUANT_RUNNER_STORE": str(self.store),
            "QUANT_RUNNER_ENVIRONMENTS": str(self.environments),
            "HF_HUB_OFFLINE": "1",
        }

    @contextlib.contextmanager
    def started(self, name: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
        """``runner`` with these overrides, in a sweep of its own; killed at the end."""
        command = [sys.executable, "-m", "runner", *self.arguments(*arguments), f"sweep={name}"]
        self.commands[name] = " ".join(["runner", *map(_quoted, command[3:-1])])
        with (
            self.log(name).open("wb") as log,
            subprocess.Popen(
                command,
                cwd=self.scratch,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield process
            finally:
                end(process)

    def run(self, name: str, *arguments: str, limit: float) -> list[RunRecord]:
        """The records of ``runner`` with these overrides, of runs that went well.

        Args:
            name: Of the sweep, and under which ``records`` keeps what came out.
            arguments: Overrides, and ``-m`` where there are several runs.
            limit: Seconds after which it is killed.

        Raises:
            RunFailed: It was killed, or a run went wrong.
            NotPossible: Every run was refused, and why the first was.
        """
        with self.started(name, *arguments) as process:
            late = min(limit * self.patience, self.budget.left)
            try:
                process.wait(max(0.1, late))
            except subprocess.TimeoutExpired:
                raise RunFailed(f"killed after {late:.0f} s", self.tail(name)) from None
        found = read_records(self.runs, name)
        wrong = [
            f"{record.label}: {record.status.value}: {record.reason}"
            for record in found
            if not record.status.without_fault
        ]
        if wrong or process.returncode or not found:
            said = "; ".join(wrong) or f"exit code {process.returncode}: {self.last_words(name)}"
            raise RunFailed(said, self.tail(name))
        well = [record for record in found if record.status is Status.ok]
        if not well:
            raise NotPossible(found[0].reason or "skipped")
        self.records[name] = well
        return well

    def log(self, name: str) -> Path:
        """What a run prints."""
        return self.scratch / f"{name}.log"

    def tail(self, name: str) -> list[str]:
        """The last lines of it."""
        text = self.log(name).read_text("utf-8", errors="replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-_TAIL:]

    def last_words(self, name: str) -> str:
        """The last line of it."""
        return next(reversed(self.tail(name)), "it printed nothing")

    def probe(self, python: str, *arguments: str, limit: float, gpus: Sequence[Gpu] = ()) -> str:
        """What ``gpu_check.probes`` prints in another interpreter.

        Args:
            python: The interpreter.
            arguments: Name of the probe and its own.
            limit: Seconds after which it is killed.
            gpus: Those that it finds.

        Raises:
            RunFailed: It fails, or takes too long.
            NotPossible: There is no such interpreter.
        """
        try:
            done = subprocess.run(
                [python, "-m", "gpu_check.probes", *arguments],
                cwd=self.scratch,
                env=self.variables | visible_variables(gpus),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=max(1.0, min(limit * self.patience, self.budget.left)),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RunFailed(f"killed after {limit:.0f} s", []) from None
        except OSError as error:
            raise NotPossible(f"{python}: {error.strerror}") from None
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise RunFailed(lines[-1] if lines else f"exit code {done.returncode}", lines[-_TAIL:])
        return done.stdout


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a run and all that it started; workers end with the process that started them."""
    for number, patience in ((signal.SIGINT, _PATIENCE), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _quoted(argument: str) -> str:
    return f"'{argument}'" if set(argument) & set("[]{} ,") else argument


def bytes_in_words(count: float) -> str:
    """``1.0 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
