"""Uploads offline W&B runs to the server, once each."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from runner.errors import RunnerError, UsageError
from runner.util.shown import tell
from runner.util.surroundings import ELSEWHERE, for_children

_HOST = "https://api.wandb.ai"
_ANSWER_SECONDS = 10.0
_LAST_LINES = 5


@dataclass(frozen=True)
class OfflineRun:
    """A directory in which one process kept a run."""

    directory: Path

    @property
    def id(self) -> str:
        """The run's id; a run that was started again has several directories."""
        return self.directory.name.rpartition("-")[2]

    @property
    def is_sent(self) -> bool:
        """Whether the server has it: W&B leaves a mark beside the log."""
        return any(self.directory.glob("*.wandb.synced"))

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())


def offline_runs(tracking: Path) -> list[OfflineRun]:
    """Those below a tracker's directory, the oldest first."""
    return [OfflineRun(path) for path in sorted(tracking.glob("wandb/offline-run-*"))]


def send(runs: list[OfflineRun], tracking: Path) -> list[OfflineRun]:
    """Send runs with ``wandb sync``; returns those that the server now has.

    Parts of one run are joined by W&B in the order in which they were begun.

    Args:
        runs: Which.
        tracking: The tracker's directory, where W&B keeps its caches too.

    Raises:
        UsageError: There are no credentials.
        RunnerError: The server does not answer.
    """
    host = os.environ.get("WANDB_BASE_URL", _HOST)
    _require_credentials(host)
    _require_answer(host)
    variables = {
        name: os.environ.get(name, str(tracking))
        for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
    }
    # The wheel's own entry point; its module is none that `python -m` takes.
    program = "from wandb.cli.cli import cli; cli()"
    paths = [str(run.directory) for run in runs]
    done = subprocess.run(
        [sys.executable, "-c", program, "sync", "--yes", *paths],
        env={**os.environ, **for_children(), **variables},
        cwd=ELSEWHERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    sent = [run for run in runs if run.is_sent]
    if len(sent) < len(runs):
        from runner.util.redact import redact

        for line in done.stdout.strip().splitlines()[-_LAST_LINES:]:
            tell(f"  | {redact(line)}", error=True)
    return sent


def _require_credentials(host: str) -> None:
    from requests.utils import get_netrc_auth

    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return
    if get_netrc_auth(host) is None:
        raise UsageError(
            f"no credentials for {host}: set WANDB_API_KEY, or `wandb login`; the runs are kept"
        )


def _require_answer(host: str) -> None:
    # W&B itself tries for hours.
    import requests

    try:
        requests.get(host, timeout=_ANSWER_SECONDS)
    except requests.RequestException as error:
        raise RunnerError(
            f"{host} does not answer ({type(error).__name__}); the runs are kept"
        ) from error
