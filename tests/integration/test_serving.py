"""llama.cpp's server under load from guidellm, each in its environment. Nothing is timed."""

import json
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.pipeline.stages.serving import ServingResult
from runner.util.serialise import from_json
from tests.integration.conftest import Called, records

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(3600),
    pytest.mark.environments("llama_cpp", "guidellm"),
]


def test_a_server_answers_requests_and_is_gone_afterwards(
    store: Path, command: Callable[..., Called]
) -> None:
    called = command(
        "model=tiny", "method=gguf", "bits=w8a16", "engine=llama_cpp", "stages=[quantize,serving]",
        "serving=quick", "serving.max_concurrency=2", "serving.warmup_rounds=1",
        "decide.max_checkpoint_bytes=1kB", "hardware.price.dollars_per_hour=3.6",
        "tracker=none", "sweep=serving",
    )  # fmt: skip
    assert called.returncode == 0, called.stderr[-4000:]
    (record,) = records(store, "serving")
    # The recipe is not worth a server's time; the unquantized model is measured all the same.
    (stage,) = [one for one in record["stages"] if one["stage"] == "serving"]
    assert (stage["subject"], stage["environment"]) == ("baseline", "guidellm")
    assert "not served: gguf-Q8_0 on llama_cpp: checkpoint" in called.stdout
    result = from_json(
        ServingResult, {k: v for k, v in stage["result"].items() if k != "resources"}
    )
    level, two = result.levels
    assert two.concurrency == 2 and two.requests == 4 and two.failed == 0
    # Two rounds of each user; the first of three is not counted.
    assert result.capacity is not None and result.capacity.breaks_at is None
    assert result.capacity.concurrency == 2 and not result.capacity.sure
    assert "most users within request 30000 ms for 90% of requests" in called.stdout
    rate = two.steady_tokens_per_second
    assert rate is not None and rate > 0
    assert result.dollars_per_million_tokens(two) == pytest.approx(1000 / rate)
    assert (level.concurrency, level.requests, level.failed) == (1, 4, 0)
    # Its stream tells no counts, so guidellm counts pieces; the last one may hold no text.
    assert 7 <= level.new_tokens <= 9, "the end-of-text token is forbidden"
    # Text cut up again has a few tokens more or less.
    assert 12 <= level.prompt_tokens <= 24
    assert len(level.request_latency_seconds.samples) == 4
    for first, rest, whole in zip(
        level.time_to_first_token_seconds.samples,
        level.time_per_output_token_seconds.samples,
        level.request_latency_seconds.samples,
        strict=True,
    ):
        assert first + 7 * rest <= whole * 1.01
    assert level.attainment == 1.0
    assert level.goodput_requests_per_second == pytest.approx(level.requests_per_second)
    # An interpreter with llama.cpp and a tokenizer at least.
    assert result.server_peak_memory_bytes > 5e7
    log = store / "objects" / "serving" / stage["key"] / "server.log"
    assert "Uvicorn running" in log.read_text("utf-8")
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert not [line for line in listed.stdout.splitlines() if str(store) in line]


def test_the_command_that_a_verdict_names_serves_what_it_says_to_take(
    store: Path, command: Callable[..., Called]
) -> None:
    called = command(
        "-m", "model=tiny", "method=gguf", "engine=llama_cpp", "stages=[quantize]",
        "decide.max_checkpoint_bytes=120MB", "decide.goal=size", "tracker=none", "sweep=taken",
    )  # fmt: skip
    assert called.returncode == 0, called.stderr[-4000:]
    answer = json.loads((store / "runs" / "taken" / "answer.json").read_text())
    (verdict,) = answer["verdict"]
    assert verdict["outcome"] == "recipe" and verdict["headline"] in called.stdout
    take = verdict["take"]
    assert Path(take["checkpoint"]).is_file() and take["checkpoint"] in take["serve"]
    port = free_port()
    words = [*shlex.split(take["serve"]), "--port", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            said = asked(f"http://127.0.0.1:{port}/v1/completions", server)
        finally:
            server.terminate()
    assert said["usage"]["completion_tokens"] == 4


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def asked(url: str, server: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The answer to a request, once the server takes one."""
    body = json.dumps({"model": "m", "prompt": "a b", "max_tokens": 4}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    while server.poll() is None:
        try:
            with urllib.request.urlopen(request) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    pytest.fail(f"the server ended with {server.returncode}")
