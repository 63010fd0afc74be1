"""The runner from Python does what the command line does."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from runner import UsageError, run
from runner.store.records import Status
from tests.integration.conftest import TINY, records

pytestmark = pytest.mark.integration


def test_run_returns_the_typed_result(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_RUNNER_STORE", str(store))
    result = run([*TINY, "method=rtn", "bits=w8a16", "tracker=none", "sweep=api"])
    assert result.status is Status.ok
    assert result.quantize is not None
    assert result.quantize.bits_per_weight == pytest.approx(8.5, abs=0.1)
    assert result.eval is not None
    assert result.baseline_eval is not None
    assert result.eval.change is not None
    assert result.eval.change.baseline == pytest.approx(result.baseline_eval.perplexity.value)
    # Eight bits hardly change even random weights' predictions.
    assert result.eval.change.ratio.estimate == pytest.approx(1.0, abs=0.05)
    assert result.bench is not None
    (batch,) = result.bench.batches
    assert len(batch.decode_tokens_per_second.samples) == 2
    assert len(batch.inter_token_latency_seconds.samples) == 2 * 7
    assert batch.memory_bandwidth_utilization is not None
    (record,) = records(store, "api")
    assert record["status"] == "ok"


def servers() -> set[int]:
    """Worker processes of this one, by number."""
    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # one that has just ended
            if "runner.pipeline.worker.server" in child.cmdline():
                found.add(child.pid)
    return found


def test_kept_workers_serve_one_call_after_the_other(
    fresh: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_RUNNER_STORE", fresh["QUANT_RUNNER_STORE"])
    asked = ["model=tiny", "method=none", "stages=[eval]", "eval=quick", "tracker=none",
             "text@eval.text=local", "eval.text.path=here.txt",
             "eval.context_length=32"]  # fmt: skip
    found = []
    for name in ("one", "two"):
        # The same relative path means another file, and its worker is the first call's.
        place = tmp_path / name
        place.mkdir()
        (place / "here.txt").write_text(f"A text of its own is here: {name}. " * 30)
        monkeypatch.chdir(place)
        result = run([*asked, f"sweep={name}"])
        assert result.status is Status.ok, result.reason
        assert result.baseline_eval is not None
        found.append((servers(), result.baseline_eval.perplexity.value))
    (first, one), (second, two) = found
    assert first == second and one != two
    # One that was started to compute otherwise does not serve.
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("QUANT_RUNNER_INSTRUCTION_SETS", "avx2")
        run([*asked, "sweep=three", "force=[eval]"])
    both = servers()
    assert both != first
    # Nor does it end the others, which are as warm as before.
    run([*asked, "sweep=four", "force=[eval]"])
    assert servers() == both


def test_without_it_no_worker_outlives_a_call(tmp_path: Path) -> None:
    code = (
        "import psutil, runner\n"
        f"runner.run({[*TINY, 'method=none', 'stages=[eval]', 'tracker=none']!r})\n"
        "print(len(psutil.Process().children(recursive=True)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "QUANT_RUNNER_STORE": str(tmp_path / "store")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "0"


def test_a_wrong_request_raises_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_RUNNER_STORE", str(tmp_path / "store"))
    with pytest.raises(UsageError, match="try group_size=g64"):
        run(["group_size=g128"])
    with pytest.raises(UsageError, match="did you mean gptq"):
        run(["method=gtpq"])
    assert not (tmp_path / "store" / "objects").exists()
