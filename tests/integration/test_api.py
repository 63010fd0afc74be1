"""The runner from Python does what the command line does."""

from pathlib import Path

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


def test_a_wrong_request_raises_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_RUNNER_STORE", str(tmp_path / "store"))
    with pytest.raises(UsageError, match="nearest legal choice: group_size=g64"):
        run(["group_size=g128"])
    with pytest.raises(UsageError, match="did you mean gptq"):
        run(["method=gtpq"])
    assert not (tmp_path / "store" / "objects").exists()
