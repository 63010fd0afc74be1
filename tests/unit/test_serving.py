"""A server's life, what guidellm is asked and what is read from its report. Without guidellm."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.config.schema.root import Config
from runner.config.schema.serving import ServiceLevelObjective, Serving
from runner.engines import find_engine
from runner.engines.base import LoadSpec
from runner.engines.llama_cpp import LlamaCpp
from runner.engines.server import PORT, Requests, ServerCommand, _peak_bytes, guard, serve
from runner.engines.vllm.settings import Vllm
from runner.errors import StageError
from runner.evaluation.serving.level import read_level
from runner.evaluation.serving.load import Target, apply_load
from runner.evaluation.serving.search import largest_concurrency, wilson_interval
from runner.pipeline.facts import gather_facts
from runner.planning.hardware.detect import Machine
from runner.reporting.report import report
from runner.store.records import StageRecord, write_record
from runner.util.serialise import to_json
from runner.validation.check import check
from runner.validation.verdict import Severity
from tests.unit.records import whole
from tests.unit.test_answer import record

pytestmark = pytest.mark.unit

ANSWERS = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    do_GET = do_POST = answer
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
DIES = "import sys; print('no such file: model.gguf'); sys.exit(3)"


REFUSES = ANSWERS.replace(
    "send_response(200)", "send_response(404 if self.command == 'POST' else 200)"
)


def command(program: str) -> ServerCommand:
    return ServerCommand(["-c", program, PORT], "model")


def alive(pid: int) -> bool:
    try:
        # A dead process stays listed until its parent has looked.
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_server_answers_and_is_stopped_whatever_happens(tmp_path: Path) -> None:
    with serve(sys.executable, command(ANSWERS), {}, tmp_path / "log", 20) as server:
        assert server.peak_memory_bytes() > 1e6
        (first,) = server.processes()
        assert alive(first)
    assert not alive(first)
    with (
        pytest.raises(StageError, match=r"broken; the server's last lines: .*POST"),
        serve(sys.executable, command(ANSWERS), {}, tmp_path / "log", 20) as server,
    ):
        (second,) = server.processes()
        raise RuntimeError("broken")
    assert not alive(second)


def test_a_server_that_dies_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(StageError, match=r"ended with code 3: no such file: model.gguf"),
        serve(sys.executable, command(DIES), {}, tmp_path / "log", 20),
    ):
        pass


def test_a_server_that_refuses_to_complete_is_of_no_use(tmp_path: Path) -> None:
    with (
        pytest.raises(StageError, match=r"refused a request \(HTTP Error 404: .*\): .*POST"),
        serve(sys.executable, command(REFUSES), {}, tmp_path / "log", 20),
    ):
        pass


def test_a_process_that_has_ended_holds_no_memory() -> None:
    ended = subprocess.Popen(["true"])
    while alive(ended.pid):
        time.sleep(0.01)
    assert _peak_bytes(ended.pid) == 0, "nobody has waited for it yet"
    ended.wait()
    assert _peak_bytes(ended.pid) == 0
    assert _peak_bytes(os.getpid()) > 1e6


def test_a_deaf_server_does_not_outlive_who_asked_for_it(tmp_path: Path) -> None:
    """Whoever holds the pipe may be killed; the server has a child and ignores SIGTERM."""
    deaf = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork();"
        "open(sys.argv[1] + str(os.getpid()), 'w').close(); time.sleep(60)"
    )
    watched, held = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", guard.__file__, str(watched), "0.3",
         sys.executable, "-c", deaf, f"{tmp_path}/"],
        pass_fds=(watched,),
    )  # fmt: skip
    os.close(watched)
    deadline = time.monotonic() + 20
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2 and all(map(alive, pids))
    os.close(held)
    assert process.wait(20) == 128 + signal.SIGKILL
    while any(map(alive, pids)) and time.monotonic() < deadline + 20:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def test_patience_ends(tmp_path: Path) -> None:
    start = time.monotonic()
    with (
        pytest.raises(
            StageError, match=r"did not answer within 0 s \(serving.startup_timeout_seconds\)"
        ),
        serve(sys.executable, command("import time; time.sleep(60)"), {}, tmp_path / "log", 0.3),
    ):
        pass
    assert time.monotonic() - start < 15


def request(start: float, first: float, rest: float, tokens: int = 5) -> dict[str, Any]:
    """One request of guidellm's report; seconds."""
    latency = first + rest * (tokens - 1)
    return {
        "request_start_time": start, "request_end_time": start + latency,
        "request_latency": latency, "time_to_first_token_ms": 1000 * first,
        "inter_token_latency_ms": 1000 * rest, "prompt_tokens": 10, "output_tokens": tokens,
        "info": {"error": None},
    }  # fmt: skip


def test_a_level_is_read_from_the_report() -> None:
    good = [request(0.0, 0.2, 0.1), request(0.5, 0.4, 0.1), request(1.0, 0.2, 0.2)]
    failed = {"info": {"error": "ConnectError"}}
    content = {"requests": {"successful": good, "errored": [failed], "incomplete": []}}
    objective = ServiceLevelObjective(
        time_to_first_token_seconds=0.3, time_per_output_token_seconds=0.15
    )
    level = read_level(content, 2, None, objective)
    assert (level.requests, level.failed, level.concurrency) == (3, 1, 2)
    assert level.seconds == pytest.approx(2.0)
    assert level.time_per_output_token_seconds.samples == pytest.approx([0.1, 0.1, 0.2])
    assert level.request_latency_seconds.p50 == pytest.approx(0.8)
    assert level.requests_per_second == pytest.approx(1.5)
    assert level.output_tokens_per_second == pytest.approx(7.5)
    # The second waited too long for its first token, the third for its others; one failed.
    assert level.attainment == pytest.approx(1 / 4)
    assert level.goodput_requests_per_second == pytest.approx(0.5)
    assert read_level(content, 2, None, ServiceLevelObjective()).attainment is None


def test_no_answer_at_all_is_an_error() -> None:
    content = {
        "requests": {
            "successful": [],
            "errored": [{"info": {"error": "refused"}}],
            "incomplete": [],
        }
    }
    with pytest.raises(StageError, match="none of 1 requests was answered: refused"):
        read_level(content, 1, None, ServiceLevelObjective())


def closed_loop(users: int, rounds: int) -> list[dict[str, Any]]:
    """Users who send when they are answered, some faster than others; guidellm's report."""
    sent = []
    for user in range(users):
        clock = 0.01 * user
        for number in range(rounds):
            one = request(clock, 0.2, 0.05 + 0.01 * ((user + number) % 3), tokens=9)
            sent.append(one)
            clock = one["request_end_time"]
    return sent


def test_the_steady_rate_is_that_of_full_load() -> None:
    users, rounds, tokens, mean = 5, 40, 9, 0.2 + 0.06 * 8
    content = {"requests": {"successful": closed_loop(users, rounds), "errored": [],
                            "incomplete": []}}  # fmt: skip
    level = read_level(content, users, None, ServiceLevelObjective(), warmup=users)
    assert level.requests == users * (rounds - 1)
    assert level.steady_tokens_per_second == pytest.approx(users * tokens / mean, rel=0.02)
    few = {"requests": {"successful": closed_loop(users, 3), "errored": [], "incomplete": []}}
    ends = read_level(few, users, None, ServiceLevelObjective(), warmup=users)
    assert ends.steady_tokens_per_second == pytest.approx(users * tokens / mean, rel=0.08)
    # Over the whole time, in which some users have nothing to do, it is less.
    assert ends.output_tokens_per_second < 0.95 * users * tokens / mean
    assert level.tokens_per_second_per_user == pytest.approx(1 / 0.06, rel=0.02)
    single = {"requests": {"successful": [request(0.0, 0.2, 0.1)], "errored": [],
                           "incomplete": []}}  # fmt: skip
    one = read_level(single, 1, None, ServiceLevelObjective())
    assert one.steady_tokens_per_second == pytest.approx(5 / 0.6)
    assert read_level(single, None, 2.0, ServiceLevelObjective()).steady_tokens_per_second is None


@pytest.mark.parametrize("most", [1, 2, 6, 64, 65, 100])
def test_the_largest_concurrency_is_found_with_few_probes(most: int) -> None:
    for true in range(most + 2):
        asked: list[int] = []

        def probe(users: int, true: int = true, asked: list[int] = asked) -> tuple[int, int]:
            asked.append(users)
            return (50 if users <= true else 10), 50

        found = largest_concurrency(probe, most, 0.9)
        assert len(set(asked)) == len(asked) <= 2 * most.bit_length() and max(asked) <= most
        if true >= most:
            assert (found.concurrency, found.breaks_at) == (most, None)
        elif true == 0:
            assert (found.concurrency, found.breaks_at) == (None, 1)
        else:
            assert found.concurrency is not None and found.breaks_at is not None
            assert found.concurrency <= true < found.breaks_at
            assert found.breaks_at - found.concurrency <= max(1, found.concurrency // 10)
        assert found.sure


def test_few_requests_leave_a_search_unsure() -> None:
    # n of n show n / (n + 1.96^2) at least.
    assert wilson_interval(35, 35) == pytest.approx((35 / (35 + 1.959964**2), 1.0))
    assert wilson_interval(0, 4)[0] == 0 and wilson_interval(0, 0) == (0.0, 1.0)
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    for requests, sure in ((34, False), (35, True)):
        counts = {True: (requests, requests), False: (0, requests)}
        found = largest_concurrency(lambda users, counts=counts: counts[users <= 3], 8, 0.9)
        assert (found.concurrency, found.breaks_at, found.sure) == (3, 4, sure)
    found = largest_concurrency(lambda users: (40, 40) if users <= 3 else (35, 40), 8, 0.9)
    assert (found.concurrency, found.sure) == (3, False), "35 of 40 may be 90% in truth"


def test_a_guidellm_that_fails_is_told_with_its_last_lines(tmp_path: Path) -> None:
    load = Serving(concurrencies=[1], arrival_rates=[])
    target = Target("http://127.0.0.1:9", "m", {}, tmp_path)
    with pytest.raises(StageError, match=r"(?s)guidellm ended with code 1: .*No module named guid"):
        apply_load(target, load, tmp_path)


def test_levels_stand_in_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = [request(0.0, 0.2, 0.1), request(0.5, 0.4, 0.1)]
    content = {"requests": {"successful": good, "errored": [], "incomplete": []}}
    objective = ServiceLevelObjective(time_to_first_token_seconds=0.3)
    levels = [
        read_level(content, 2, None, objective),
        read_level(content, None, 0.5, ServiceLevelObjective()),
    ]
    served = StageRecord(
        "serving",
        "recipe",
        "key",
        False,
        1.0,
        "guidellm",
        {},
        whole("serving", {"levels": to_json(levels)}),
    )
    write_record(tmp_path, record(0, "gguf-Q8_0", []))
    entry = record(1, "gguf-Q4_0", [])
    entry.stages.append(served)
    write_record(tmp_path, entry)
    report(tmp_path, None, None)
    printed = capsys.readouterr().out
    for fragment in ("2 at once", "0.5 a second", "300 / 398", "100.0 / 100.0", "0.77 (50%)"):
        assert fragment in printed, printed


def spec(checkpoint: Path, settings: Any, device: str = "cpu") -> LoadSpec:
    return LoadSpec(checkpoint, "float", device, "float32", False, 2, settings)


def test_what_servers_are_started_with(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    requests = Requests(Path("/models/base"), [2], 100)
    llama = find_engine("llama_cpp").server(spec(tmp_path, LlamaCpp(name="llama_cpp")), requests)
    assert llama is not None
    assert {"--interrupt_requests=false", "--n_ctx=164", f"--port={PORT}"} <= {*llama.arguments}
    assert llama.body == {"logit_bias": {"2": -100.0}}
    assert llama.arguments[:2] == ["-m", "llama_cpp.server"]
    assert "--n_gpu_layers=0" in llama.arguments
    vllm = find_engine("vllm").server(
        spec(tmp_path, Vllm(name="vllm", enforce_eager=True)), requests
    )
    assert vllm is not None
    assert "--enforce-eager" in vllm.arguments
    assert "--no-enable-prefix-caching" in vllm.arguments, "equal prompts would cost nothing"
    assert "--tokenizer=/models/base" in vllm.arguments
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in vllm.variables
    assert find_engine("hf").server(spec(tmp_path, None), requests) is None


def test_llama_cpp_serves_from_a_gpu_with_its_layers_there_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    requests = Requests(Path("/models/base"), [2], 100)
    settings = LlamaCpp(name="llama_cpp")
    command = find_engine("llama_cpp").server(spec(tmp_path, settings, "cuda"), requests)
    assert command is not None
    assert "--n_gpu_layers=-1" in command.arguments
    assert command.arguments[0] == "-c", "a build for CPUs would serve, without a word"
    assert (
        "llama_supports_gpu_offload() or sys.exit('this llama.cpp finds no GPU"
        in command.arguments[1]
    )
    settings.gpu_layers = 0
    with pytest.raises(StageError, match=r"leaves every layer to the CPU: engine\.device=cpu"):
        find_engine("llama_cpp").server(spec(tmp_path, settings, "cuda"), requests)
    assert "gpu_layers" in settings.unread("cpu") and not settings.unread("cuda")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["engine=hf"], "engine=hf has none; try engine=llama_cpp"),
        (["serving.concurrencies=[]"], "serving has no load"),
        (
            ["serving.max_concurrency=8"],
            "looks for where an SLO breaks, and none is set; try serving.slo",
        ),
        (["hardware=h100_sxm"], "serving measures this machine, which has no h100_sxm"),
        (["serving.prompt_tokens=9000"], "the model's context is 8192"),
        (
            ["bench.interleave=always", "engine=vllm", "stages=[bench]"],
            "which engine=vllm does not support",
        ),
    ],
)
def test_loads_that_make_no_sense(
    overrides: list[str], said: str, composed: Callable[..., Config], cpu: Machine
) -> None:
    given = ["engine=llama_cpp", "method=none", "stages=[serving]", *overrides]
    config = composed(*given)
    found = check(config, gather_facts(config, cpu, given))
    assert any(said in str(v) for v in found if v.severity is Severity.illegal), found


def test_serving_what_a_server_reads_is_legal(
    composed: Callable[..., Config], cpu: Machine
) -> None:
    given = ["engine=llama_cpp", "method=none", "stages=[serving]", "serving=chat"]
    config = composed(*given)
    found = check(config, gather_facts(config, cpu, given))
    assert not [v for v in found if v.severity is Severity.illegal]
