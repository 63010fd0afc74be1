"""A model in a process of its engine's environment, asked about token ids."""

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner.engines.loading import LoadRequest
from runner.engines.server import tail
from runner.engines.tokens import Asked, Told
from runner.errors import StageError
from runner.util.logs import BoundedLog, Pump
from runner.util.serialise import to_json
from runner.util.surroundings import ELSEWHERE

_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class EngineProcess:
    """How a process of an engine's environment is started."""

    python: str
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables besides the worker's own."""
    patches: list[str] = field(default_factory=list)
    """Of ``runner.environments.patches``."""


class TokenClient:
    """A ``TokenModel`` elsewhere."""

    def __init__(
        self, process: EngineProcess, request: LoadRequest, threads: int, log: Path
    ) -> None:
        """Start the process and wait until it has loaded the checkpoint.

        Args:
            process: How.
            request: The checkpoint and the engine.
            threads: Of the CPU.
            log: File for what it prints.

        Raises:
            StageError: It cannot load the checkpoint.
            MemoryError: It was killed.
        """
        self._pump = Pump(BoundedLog(log))
        try:
            self._process = subprocess.Popen(
                [process.python, "-m", "runner.engines.server.tokens", ",".join(process.patches)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._pump.end,
                env={**os.environ, **process.variables},
                cwd=ELSEWHERE,
                encoding="utf-8",
            )
        finally:
            self._pump.started()
        try:
            loaded = self._ask({"load": to_json(request), "threads": threads})
        except BaseException:
            self.close()
            raise
        self.arithmetic: str = loaded["arithmetic"]

    def tell(self, asked: list[Asked], places: int, tokens: int) -> list[Told]:
        """See ``TokenModel.tell``."""
        question = {"asked": [asdict(one) for one in asked], "places": places, "tokens": tokens}
        return [Told(**one) for one in self._ask(question)["told"]]

    def _ask(self, content: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(content) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            said = f"the engine's process ended with code {code}: {tail(self._pump)}"
            # Killed, as a system kills what has taken all its memory: half a batch may do.
            raise MemoryError(said) if code == -signal.SIGKILL else StageError(said)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise StageError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process, which frees the model's memory."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert stream is not None
                stream.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pump.close()
