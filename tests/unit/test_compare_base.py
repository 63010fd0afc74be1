"""The unquantized model's own change between two runs, and thresholds of a comparison."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.config.schema.compare import Compare
from runner.errors import UsageError
from runner.reporting.compare import compare
from runner.reporting.compare.base import base_figures, base_note
from runner.reporting.compare.figure import NOT_PAIRED
from runner.reporting.compare.figures import figures
from runner.store.records import RunRecord, write_record
from tests.unit.records import stage
from tests.unit.test_compare_quality import losses, measured, run

pytestmark = pytest.mark.unit


def based(record: RunRecord, worse: float, fingerprint: str, tokens: str = "aaaa1111") -> RunRecord:
    """A run whose unquantized model has other losses."""
    rows = measured(losses(worse), None, "lm_eval_512", tokens_sha256=tokens)
    result = {**rows[0], "further": rows[1:], "arithmetic": "float32"}
    record.stages = [stage("eval", "baseline", result), *record.stages[1:]]
    record.model_fingerprint = fingerprint
    return record


def said(a: RunRecord, b: RunRecord) -> str | None:
    return base_note(a, b, list(base_figures(a, b)))


def test_weights_of_the_base_that_changed_are_told_with_what_that_did() -> None:
    before, after = run(0.2), based(run(0.2), 0.1, "package:4:eeee")
    (word, _) = base_figures(before, after)
    assert word.verdict == "changed"
    assert word.ratio is not None and word.ratio.low > 1
    note = said(before, after)
    assert note is not None
    assert note.startswith(f"the weights of the base changed: word perplexity {word.a:.5g} → ")
    # A recipe of another base is not called better or worse than one of this.
    assert {one.verdict for one in figures(before, after)} == {NOT_PAIRED}


def test_a_base_that_did_not_change_is_told_too() -> None:
    note = said(run(0.2), run(0.4))
    assert note is not None
    assert note.startswith("the base is the same: word perplexity ")
    assert note.endswith(" in both")


def test_figures_that_changed_with_the_same_weights_are_software_or_text() -> None:
    same = "package:4:ffff"
    note = said(run(0.2), based(run(0.2), 0.1, same))
    assert note is not None
    assert note.startswith("the base has the same weights, and other figures: word perplexity")
    elsewhere = said(run(0.2), based(run(0.2), 0.1, same, tokens="bbbb2222"))
    assert elsewhere is not None
    assert "(on other tokens)" in elsewhere


def compared(tmp_path: Path, a: float, b: float, **thresholds: Any) -> tuple[int, Path]:
    runs, output = tmp_path / "runs", tmp_path / "output"
    output.mkdir(exist_ok=True)
    for sweep, worse in (("old", a), ("new", b)):
        made = run(worse, sweep=sweep, run="000-mine")
        made.label = "mine"
        write_record(runs, made)
    config: Any = SimpleNamespace(stages=["compare"], compare=Compare("old", "new", **thresholds))
    return compare(runs, config, output), output


@pytest.mark.parametrize(
    ("b", "thresholds", "code"),
    [
        (0.9, {}, 0),
        (0.21, {"max_perplexity_ratio": 1.5}, 0),
        (0.9, {"max_perplexity_ratio": 1.01}, 3),
        (0.21, {"max_perplexity_ratio": 1.025}, 4),
    ],
)
def test_thresholds_decide_the_exit_code(
    b: float, thresholds: dict[str, float], code: int, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found, output = compared(tmp_path, 0.2, b, **thresholds)
    assert found == code
    text = (output / "compare.md").read_text()
    said = {0: "pass", 3: "fail", 4: "cannot tell"}[code]
    assert (f"Thresholds: {said}" in text) is bool(thresholds)
    assert (f"thresholds: {said}" in capsys.readouterr().out) is bool(thresholds)
    assert "| word perplexity/lm" in text
    assert ("thresholds" in json.loads((output / "compare.json").read_text())) is bool(thresholds)


def test_a_threshold_that_nothing_was_measured_for_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"compare\.min_recovery cannot be tested: no accuracy"):
        compared(tmp_path, 0.2, 0.3, min_recovery=0.99)
