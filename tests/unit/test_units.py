"""Numbers with a unit behind them, in whatever way a field is set."""

from pathlib import Path

import pytest

from runner.api import compose_config
from runner.config.units import in_unit
from runner.errors import UsageError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("ttft_seconds", "500ms", 0.5), ("ttft_seconds", "0.5s", 0.5), ("seconds", "2min", 120),
        ("latency_seconds", "30 MS", 0.03), ("x_seconds", "1.5e3us", 0.0015),
        ("x_seconds", "1h", 3600),
        ("x_seconds", "-3ms", -0.003), ("tokens_per_day", "10M", 10_000_000),
        ("tokens_per_day", "2.5k", 2500), ("kv_cache_bytes", "4GiB", 2**32),
        ("memory_gigabytes", "512MB", 0.512), ("visible_memory_gibibytes", "22GiB", 22),
        ("ttft_seconds", "30mb", None), ("ttft_seconds", "ms", None), ("ttft_seconds", "3", None),
        ("tokens_per_day", "10m", None), ("tokens_per_day", "1e999999999M", None),
        ("min_recovery", "99%", 0.99), ("max_perplexity_ratio", "105 %", 1.05),
        ("max_slowdown", "10%", 0.1), ("min_recovery_percent", "97.5%", 97.5),
        ("min_recovery", "99", None), ("max_checkpoint_bytes", "120%", None),
        ("context_length", "32k", None), ("gigabytes_per_second", "3GB", None),
    ],
)  # fmt: skip
def test_a_unit_is_read_by_the_end_of_a_fields_name(
    name: str, text: str, value: float | None
) -> None:
    assert in_unit(name, text) == value


def test_units_are_read_from_words_files_and_sections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "plan").mkdir(parents=True)
    (tmp_path / "conf" / "plan" / "mine.yaml").write_text("latency_seconds: 30ms\n")
    config = compose_config(
        ["plan=mine", "plan.ttft_seconds=0.5s", "plan.tokens_per_day=10M",
         "plan.min_recovery_percent=98%", "decide.min_recovery=99%",
         "decide.max_checkpoint_bytes=120MB", "decide.max_ttft_seconds=30ms",
         "serving.slo={request_latency_seconds: 2min}"]
    )  # fmt: skip
    plan = config.plan
    assert (plan.latency_seconds, plan.ttft_seconds, plan.tokens_per_day) == (0.03, 0.5, 1e7)
    assert config.serving.slo.request_latency_seconds == 120
    decide = config.decide
    assert (plan.min_recovery_percent, decide.min_recovery) == (98, 0.99)
    assert (decide.max_checkpoint_bytes, decide.max_ttft_seconds) == (120_000_000, 0.03)


def test_a_unit_of_another_kind_is_refused_with_those_that_fit() -> None:
    with pytest.raises(UsageError, match=r"30mb must be a number of seconds, such as 0.5, 500ms"):
        compose_config(["plan.ttft_seconds=30mb"])
