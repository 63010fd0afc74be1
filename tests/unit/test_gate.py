"""The gate: what it holds against what, its three outcomes, and what it writes."""

import copy
import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scipy import stats

from runner.config.schema.gate import Gate
from runner.config.schema.root import Config, StageName
from runner.errors import UsageError
from runner.evaluation.metrics.paired import paired_difference
from runner.reporting.compare.find import Side
from runner.reporting.gate import gate
from runner.reporting.gate.judge import Criterion, judge
from runner.reporting.gate.pairs import followed_by, opposed
from runner.store.records import RunRecord, Status, write_record
from tests.unit.records import with_answers, with_quality

pytestmark = pytest.mark.unit


def judged(
    made: RunRecord | list[RunRecord], *, other: list[RunRecord] | None = None, **limits: float
) -> list[Criterion]:
    records = made if isinstance(made, list) else [made]
    section = Gate(**limits)  # type: ignore[arg-type]
    against = None if other is None else Side("other", other, is_run=False)
    pairs = opposed(section, Side("mine", records, is_run=False), against)
    return judge(section, pairs, "mine").criteria


def test_perplexity_and_kl_divergence_against_the_unquantized_model() -> None:
    made = with_quality(1, 0.10, [0.19, 0.20, 0.21])
    ratio, kl = judged(made, max_perplexity_ratio=1.15, max_kl=0.25)
    t = float(stats.t.ppf(0.95, 2))
    half = t * math.sqrt(0.0003 / 3)
    assert (ratio.measured, ratio.bound) == (
        pytest.approx(math.exp(0.1)), pytest.approx(math.exp(0.1 + half)),
    )  # fmt: skip
    assert (kl.measured, kl.bound) == (
        pytest.approx(0.2), pytest.approx(0.2 + t * 0.01 / math.sqrt(3)),
    )  # fmt: skip
    assert (ratio.outcome, kl.outcome) == ("pass", "pass")
    assert (ratio.units, ratio.unit) == (3, "windows")
    (ratio,) = judged(made, max_perplexity_ratio=1.11)
    assert ratio.outcome == "cannot tell"
    assert ratio.needed_units is not None and ratio.needed_units > 3
    assert f"about {ratio.needed_units} windows would tell (3 measured)" == ratio.reason
    (ratio,) = judged(made, max_perplexity_ratio=1.02)
    assert (ratio.outcome, ratio.reason) == ("fail", None)
    assert ratio.bound == pytest.approx(math.exp(0.1 - half))


def test_against_a_run_losses_are_the_increase_over_its_own() -> None:
    old = with_quality(1, 0.10, [0.19, 0.20, 0.21])
    new = with_quality(1, 0.11, [0.20, 0.21, 0.22])
    ratio, kl = judged(new, other=[old], max_perplexity_ratio=1.02, max_kl=0.02)
    assert ratio.measured == pytest.approx(math.exp(0.01))
    assert (kl.measured, kl.outcome, ratio.outcome) == (pytest.approx(0.01), "pass", "pass")
    assert kl.bound == pytest.approx(0.01), "the difference is the same in every window"
    assert ratio.against == "mine/001-r1"


def test_recovery_is_item_by_item_and_few_items_show_nothing() -> None:
    base = "1110" * 100
    (same,) = judged(with_answers(with_quality(1, 0.1, [0.1] * 3), base, base), min_recovery=0.97)
    assert (same.outcome, same.measured, same.unit) == ("pass", pytest.approx(1), "items")
    (few,) = judged(
        with_answers(with_quality(1, 0.1, [0.1] * 3), base[:20], base[:20]), min_recovery=0.97
    )
    assert few.outcome == "cannot tell", "none of 20 lost is none of a hundred"
    assert few.bound is not None and few.bound < 0.97
    assert few.needed_units is not None and 20 < few.needed_units < 2000
    lost = "0" * 80 + base[80:]
    (bad,) = judged(with_answers(with_quality(1, 0.1, [0.1] * 3), lost, base), min_recovery=0.97)
    assert (bad.outcome, bad.measured) == ("fail", pytest.approx(0.8))
    # Of many items it is Student's one-sided bound on the same items.
    (some,) = judged(with_answers(with_quality(1, 0.1, [0.1] * 3), lost, base), min_recovery=0.75)
    weighted = [0.75 * int(one) for one in base]
    interval = paired_difference([float(one) for one in lost], weighted)
    error = (interval.high - interval.estimate) / float(stats.t.ppf(0.975, 399))
    bound = 0.75 - (interval.estimate + error * float(stats.t.ppf(0.95, 399))) / 0.75
    assert some.bound == pytest.approx(bound, abs=0.002)


def test_slowdown_is_of_speeds_taken_in_turns() -> None:
    made = with_quality(1, 0.1, [0.1] * 3, speed=36.0)
    (slow,) = judged(made, max_slowdown=0.2)
    assert (slow.outcome, slow.measured) == ("pass", pytest.approx(0.1, abs=0.001))
    assert slow.bound is not None and 0.1 < slow.bound < 0.2
    assert (slow.unit, slow.units) == ("repetitions", 3)
    (slow,) = judged(made, max_slowdown=0.01)
    assert slow.outcome == "fail"
    faster = with_quality(1, 0.1, [0.1] * 3, speed=72.0)
    (twice,) = judged(made, other=[faster], max_slowdown=0.05)
    assert (twice.outcome, twice.measured) == ("fail", pytest.approx(0.5, abs=0.001))
    elsewhere = copy.deepcopy(faster)
    elsewhere.host = {"cpu_name": "Another CPU", "gpus": []}
    (unknown,) = judged(made, other=[elsewhere], max_slowdown=0.05)
    assert unknown.outcome == "cannot tell" and unknown.measured is None


def test_sweeps_are_paired_by_recipe_and_one_run_with_all() -> None:
    mine = [with_quality(n, 0.1, [0.1, 0.11, 0.1]) for n in (1, 2)]
    other = [with_quality(n, 0.1, [0.1, 0.11, 0.1]) for n in (2, 3)]
    first, second = judged(mine, other=other, max_kl=0.1)
    assert first.outcome == "cannot tell" and first.reason == "other has no run of r1"
    assert (second.outcome, second.against) == ("pass", "mine/002-r2")
    assert [one.against for one in judged(mine, other=other[1:], max_kl=0.1)] == ["mine/003-r3"] * 2


def test_what_cannot_be_told_says_why() -> None:
    failed = with_quality(1, 0.1, [0.1] * 3)
    failed.status, failed.reason = Status.failed, "out of memory"
    foreign = with_quality(2, 0.1, [0.1] * 3)
    foreign.model_fingerprint = "g"
    good = with_quality(3, 0.1, [0.1, 0.11, 0.1])
    skipped = with_quality(4, 0.1, [0.1] * 3)
    skipped.status, skipped.reason = Status.skipped, "no such combination"
    told = {
        one.candidate: one
        for one in judged([failed, foreign, skipped], other=[good], max_kl=0.1)
    }  # fmt: skip
    assert {one.outcome for one in told.values()} == {"cannot tell"}
    assert len(told) == 2
    assert told["mine/001-r1"].reason == "the run is failed: out of memory"
    assert told["mine/002-r2"].reason == "the unquantized models differ (g and f)"


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({}, "gate has no criterion: set one or more of gate.min_recovery=99%, "),
        ({"min_recovery": 0.99}, "no accuracy on tasks .* of r1 .*tasks=packaged"),
    ],
)
def test_a_gate_that_can_test_nothing_is_a_wrong_request(
    limits: dict[str, float], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        judged(with_quality(1, 0.1, [0.1] * 3), **limits)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for made in (with_quality(1, 0.10, [0.19, 0.20, 0.21]), with_quality(2, 0.20, [0.3, 0.4, 0.5])):
        write_record(tmp_path / "runs", made)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("candidate", "most", "code", "outcome"),
    [
        ("mine/1", 0.3, 0, "pass"),
        ("mine/2", 0.1, 3, "fail"),
        ("mine/2", 0.5, 4, "cannot tell"),
        ("mine", 0.3, 4, "cannot tell"),
    ],
)
def test_a_gate_writes_what_it_says_and_ends_with_its_code(
    candidate: str, most: float, code: int, outcome: str, runs: Path, tmp_path: Path
) -> None:
    config = Config(stages=[StageName.gate], gate=Gate(candidate=candidate, max_kl=most))
    assert gate(runs, config, tmp_path) == code
    content = json.loads((tmp_path / "gate.json").read_text("utf-8"))
    assert (content["outcome"], content["exit_code"]) == (outcome, code)
    said = (tmp_path / "gate.md").read_text("utf-8")
    assert f"Gate: {outcome} (" in said and f"KL divergence | ≤ {most:g} |" in said
    suite = ElementTree.parse(tmp_path / "gate.xml").getroot()
    cases = suite.findall("testcase")
    counts = [len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error")]
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == [
        str(len(cases)), *map(str, counts),
    ]  # fmt: skip
    assert (counts[0] > 0, counts[1] > 0) == (code == 3, code == 4)
    assert {case.get("name") for case in cases} == {"max_kl"}


def test_a_run_is_not_held_against_itself(runs: Path) -> None:
    config = Config(
        stages=[StageName.gate], gate=Gate(candidate="mine/1", against="mine/001", max_kl=0.1)
    )
    with pytest.raises(UsageError, match="held against itself"):
        gate(runs, config, None)


def test_only_the_tracker_that_followed_a_run_is_told_that_it_passed() -> None:
    records = [with_quality(n, 0.1, [0.1] * 3) for n in (1, 2, 3)]
    records[0].config["tracker"] = {"name": "here"}
    records[1].config["tracker"] = {"name": "there"}
    pairs = opposed(Gate(max_kl=0.1), Side("mine", records, is_run=False), None)
    assert [one.run for one in followed_by("here", pairs)] == ["001-r1"]


def test_names_are_no_markup(tmp_path: Path) -> None:
    made = with_quality(1, 0.10, [0.19, 0.20, 0.21])
    made.sweep = "a|b<img>\x1b"
    config = Config(stages=[StageName.gate], gate=Gate(max_kl=0.1))
    pairs = opposed(config.gate, Side("a", [made], is_run=False), None)
    from runner.reporting.gate.show import junit, markdown

    verdict = judge(config.gate, pairs, "a")
    assert "a\\|b\\<img>\\x1b/001-r1" in markdown(verdict)
    (case,) = ElementTree.fromstring(junit(verdict)).findall("testcase")
    assert case.get("classname") == "a|b<img>\\x1b/001-r1"
