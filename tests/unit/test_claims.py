"""Claims of a sweep: which runs they compare, and what the numbers say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.claims import Claim, Effect, Metric
from runner.config.schema.group_size import Granularity, GroupSize
from runner.evaluation.metrics.perplexity import perplexity, perplexity_change
from runner.evaluation.metrics.statistics import Interval
from runner.reporting.claims.decide import (
    CANNOT_TELL,
    DOES_NOT_HOLD,
    HOLDS,
    Decision,
    Evidence,
    decide,
)
from runner.reporting.claims.select import matching, pairs, value_of
from runner.reporting.claims.show import claim_lines, comparison_line
from runner.reporting.report import report
from runner.store.records import RunRecord, StageRecord, Status, write_record
from runner.util.serialise import to_json
from tests.unit.records import content_of, unread, whole

pytestmark = pytest.mark.unit

RIGHT = "method=rtn group_size=g64"
WINDOWS, TOKENS = 8, 64
NOISE = np.random.default_rng(0)
TEXT_LOSSES = NOISE.normal(3.0, 0.5, (WINDOWS, TOKENS)) + NOISE.normal(0, 0.4, (WINDOWS, 1))
"""What the text does to every model alike: windows differ much."""


def losses(worse: float) -> NDArray[np.float32]:
    """A model that loses ``worse`` nats a token more, with a little noise of its own."""
    noise = np.random.default_rng(int(worse * 1000) + 1).normal(0, 0.01, (WINDOWS, TOKENS))
    return (TEXT_LOSSES + worse + noise).astype(np.float32)


class Sweep:
    """Records as runs leave them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: list[RunRecord] = []

    def ran(
        self, told: str, worse: float, *, bits: int = 4, group: int = 64, seconds: float = 1.0,
        text: str = "wikipedia",
    ) -> RunRecord:  # fmt: skip
        terms = dict(term.split("=") for term in told.split())
        number = len(self.records)
        config: dict[str, Any] = {
            "method": {
                "name": terms.get("method", "rtn"),
                "sym": terms.get("method.sym") != "false",
            },
            "bits": to_json(
                Bits(NumberFormat(NumberType.int, bits), NumberFormat(NumberType.bfloat, 16))
            ),
            "group_size": to_json(GroupSize(Granularity.group, group)),
            "eval": {"text": {"name": text}, "windows": WINDOWS},
        }
        stages = [self._eval(number, "baseline", 0.0), self._eval(number, "recipe", worse)]
        found = {
            "bits_per_weight": bits + 16 / group,
            "checkpoint_bytes": 1,
            "resources": {"seconds": seconds},
        }
        stages.append(
            StageRecord(
                "quantize", "recipe", "q", False, 1.0, "default", {}, whole("quantize", found)
            )
        )
        label = f"{config['method']['name']}-w{bits}a16-g{group}"
        record = RunRecord(
            sweep="s", run=f"{number:03d}-{label}", label=label, model="small", engine="hf",
            status=Status.ok, reason=None, started="", seconds=1.0,
            overrides=told.replace("eval.text", "text@eval.text").split(), config=config,
            unquantized_bits=16.0, stages=stages,
        )  # fmt: skip
        self.records.append(record)
        return record

    def _eval(self, number: int, subject: str, worse: float) -> StageRecord:
        key = f"{subject}{number}"
        change = None if subject == "baseline" else perplexity_change(losses(worse), losses(0.0))
        found = {
            "perplexity": to_json(perplexity(losses(worse), f"gptq_{TOKENS + 1}")),
            "change": to_json(change),
        }
        return StageRecord("eval", subject, key, False, 1.0, "default", {}, whole("eval", found))

    def decide(self, left: str, right: str, **fields: Any) -> Decision:
        claim = Claim(id="C0", sentence="a claim", left=left, right=right, **fields)
        return decide(claim, self.records)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    made = Sweep(tmp_path)
    made.ran("method=rtn bits=w4a16 group_size=g32", 0.10, group=32, seconds=10)
    made.ran("method=rtn bits=w4a16 group_size=g64", 0.12, group=64, seconds=100)
    made.ran("method=rtn bits=w3a16 group_size=g32", 0.50, bits=3, group=32)
    made.ran("method=rtn bits=w3a16 group_size=g64", 0.62, bits=3, group=64)
    made.ran("method=gptq method.sym=false", 0.05)
    return made


def test_runs_are_chosen_by_what_they_were_told_or_had_by_default(sweep: Sweep) -> None:
    def numbers(selection: str) -> list[int]:
        return [sweep.records.index(record) for record in matching(sweep.records, selection)]

    assert numbers("method=rtn group_size=g32") == [0, 2]
    assert numbers("bits=w3a16") == [2, 3]
    assert numbers("method.sym=false") == [4]
    assert numbers("text@eval.text=wikipedia bits=w4a16") == [0, 1, 4]
    assert numbers("label=rtn-w3a16-g64") == [3]
    assert numbers("method=awq") == []
    sweep.records[0].status = Status.failed
    assert numbers("group_size=g32") == [2]
    with pytest.raises(ValueError, match="rtn is not of the form key=value"):
        matching(sweep.records, "rtn")


def test_pairs_agree_in_what_the_claim_leaves_open(sweep: Sweep) -> None:
    found = list(pairs(sweep.records, "group_size=g32", "method=rtn group_size=g64"))
    assert [(one.run[:3], other.run[:3], where) for one, other, where in found] == [
        ("000", "001", "bits=w4a16"),
        ("002", "003", "bits=w3a16"),
    ]


def test_a_claim_holds_when_the_interval_lies_in_the_range(sweep: Sweep) -> None:
    decision = sweep.decide("group_size=g32", "method=rtn group_size=g64", at_most=0.0)
    assert decision.verdict == f"{HOLDS} (in all 2)"
    first = decision.comparisons[0]
    assert first.effect is not None and first.left_value is not None
    expected = float(np.exp(losses(0.10).mean()) - np.exp(losses(0.12).mean()))
    assert first.effect.estimate == pytest.approx(expected, abs=1e-4)
    assert first.left_value == pytest.approx(float(np.exp(losses(0.10).mean())), abs=1e-4)


def test_the_interval_is_that_of_the_paired_difference(sweep: Sweep) -> None:
    """Two wide intervals against the same baseline would overlap; the difference is sure."""
    decision = sweep.decide(
        "bits=w4a16 group_size=g32", "method=rtn bits=w4a16 group_size=g64",
        effect=Effect.ratio, at_most=1.0,
    )  # fmt: skip
    effect = decision.comparisons[0].effect
    assert effect is not None
    blocks = (losses(0.10).astype(float) - losses(0.12)).mean(axis=1)
    half = stats.t.ppf(0.975, WINDOWS - 1) * blocks.std(ddof=1) / np.sqrt(WINDOWS)
    assert np.log(effect.low) == pytest.approx(blocks.mean() - half, abs=1e-6)
    assert np.log(effect.high) == pytest.approx(blocks.mean() + half, abs=1e-6)
    alone = losses(0.10).mean(axis=1).std(ddof=1) / np.sqrt(WINDOWS)
    assert half < 0.1 * alone
    assert decision.verdict == HOLDS


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ({"at_least": 1.0}, HOLDS),
        ({"at_least": 1.0, "at_most": 15.0}, HOLDS),
        ({"at_most": 0.0}, DOES_NOT_HOLD),
        ({"at_least": 40.0}, DOES_NOT_HOLD),
        ({"at_least": 2.1}, CANNOT_TELL),
    ],
)
def test_against_the_unquantized_model(
    bounds: dict[str, float], verdict: str, sweep: Sweep
) -> None:
    decision = sweep.decide("bits=w4a16 group_size=g32", "unquantized", **bounds)
    assert decision.comparisons[0].right == "unquantized"
    effect = decision.comparisons[0].effect
    assert effect is not None
    assert effect.low < 2.1 < effect.high, "what the last case is about"
    assert decision.verdict == verdict


def test_one_failing_pair_is_enough_against_a_claim(sweep: Sweep) -> None:
    decision = sweep.decide(
        "group_size=g32", "method=rtn group_size=g64", effect=Effect.ratio, at_least=0.95
    )
    assert [c.verdict for c in decision.comparisons] == [HOLDS, DOES_NOT_HOLD]
    assert decision.verdict == f"{DOES_NOT_HOLD} (holds in 1 of 2)"


def test_exact_numbers_and_timings(sweep: Sweep) -> None:
    sides = ("bits=w4a16 group_size=g32", "method=rtn bits=w4a16 group_size=g64")
    bits = sweep.decide(*sides, metric=Metric.bits_per_weight, at_most=0.25)
    assert bits.verdict == HOLDS
    seconds = {"metric": Metric.quantize_seconds, "effect": Effect.ratio}
    assert sweep.decide(*sides, **seconds, at_most=0.2).verdict == HOLDS
    assert sweep.decide(*sides, **seconds, at_most=0.12).verdict == CANNOT_TELL
    assert sweep.decide(*sides, **seconds, at_least=0.2).verdict == DOES_NOT_HOLD


def test_what_cannot_be_compared_says_why(sweep: Sweep) -> None:
    assert "no two finished runs" in sweep.decide("method=awq", "method=rtn").verdict
    assert "rtn is not of the form" in sweep.decide("rtn", "method=rtn").verdict
    other = sweep.ran("method=awq text@eval.text=bible", 0.1, text="bible")
    (found,) = sweep.decide("method=awq", "method=gptq", at_most=0.0).comparisons
    assert found.verdict == f"{CANNOT_TELL}: the texts evaluated differ"
    evaluation = content_of(other, "eval")
    assert evaluation is not None
    evaluation["perplexity"]["unit"] = "word"
    evaluation["perplexity"]["window_tokens"] = []
    (found,) = sweep.decide("method=awq", "unquantized", at_most=9.0).comparisons
    assert "lacks the lengths of its windows" in found.verdict
    other.stages = [entry for entry in other.stages if entry.subject == "baseline"]
    (found,) = sweep.decide("method=awq", "unquantized", at_most=9.0).comparisons
    assert "has no eval result of the recipe" in found.verdict


def test_a_figure_that_is_not_there_or_has_no_ratio_is_told(sweep: Sweep) -> None:
    sides = ("bits=w4a16 group_size=g32", "method=rtn bits=w4a16 group_size=g64")

    def said(right: str = sides[1], **fields: Any) -> str:
        decision = sweep.decide(sides[0], right, **fields)
        (found,) = decision.comparisons
        assert (found.effect, found.left_value, found.right_value) == (None, None, None)
        assert found.verdict.startswith(f"{CANNOT_TELL}: ")
        where = f" ({found.where})" if found.where else ""
        line = f"     rtn-w4a16-g32 against {found.right}{where}: {found.verdict}"
        assert claim_lines([decision])[-1] == line
        return found.verdict.removeprefix(f"{CANNOT_TELL}: ")

    one, other = sweep.records[:2]
    seconds = {"metric": Metric.quantize_seconds, "at_most": 1.0}
    assert said(**seconds) == "timings are compared by ratio"
    seconds["effect"] = Effect.ratio
    content_of(other, "quantize")["resources"]["seconds"] = 0.0
    assert said(**seconds) == "there is no ratio of 10 to 0"
    content_of(other, "quantize")["resources"]["seconds"] = None
    assert said(**seconds) == f"it is not known how long {other.run} quantized"
    assert said("unquantized", **seconds) == (f"{one.run} has no quantize result of the baseline")
    assert said(metric="made/up") == f"{one.run} has no made/up of the recipe"
    bits = {"metric": Metric.bits_per_weight, "at_most": -11.0}
    assert sweep.decide(sides[0], "unquantized", **bits).verdict == HOLDS, "4.5 less 16"
    one.unquantized_bits = None
    assert said("unquantized", **bits) == "the unquantized model's bits are not known"


def test_a_field_that_a_run_has_not_is_none_of_its_values(sweep: Sweep) -> None:
    assert value_of(sweep.records[0], "method.sym") is True
    assert value_of(sweep.records[0], "method.name.deeper") is None
    assert value_of(sweep.records[0], "calibration.seed") is None
    assert matching(sweep.records, "calibration.seed=0") == []


def test_the_answer_prints_each_claim_with_its_verdict(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = Claim("C19", "small groups help", left="group_size=g32", right=RIGHT)
    claim.at_most = 0.0
    for record in sweep.records:
        record.config["claims"] = to_json([claim])
        record.stages = [entry for entry in record.stages if entry.stage != "quantize"]
        write_record(sweep.root / "runs", record)
    report(sweep.root / "runs", None, None)
    printed = capsys.readouterr().out
    assert "C19  holds here (in all 2): small groups help" in printed
    assert "rtn-w4a16-g32 against rtn-w4a16-g64 (bits=w4a16): perplexity " in printed
    assert "claimed at most 0: holds here" in printed
    assert (sweep.root / "runs" / "s" / "answer.json").read_text().count('"C19"') == 1


def test_no_difference_has_no_sign() -> None:
    """Two equal figures may differ in their last binary digit."""
    claim = Claim("C1", "equal", left="group_size=g32", right=RIGHT, at_most=0.0)
    effect = Interval(-1e-17, -0.0004, 0.0004)
    line = comparison_line(claim, Evidence("a", "b", "", 0.5, 0.5, effect, CANNOT_TELL))
    assert "0.500 - 0.500 = +0.000 [+0.000, +0.000]; " in line


def test_no_claims_no_lines() -> None:
    assert claim_lines([]) == []


def test_documents_are_what_is_independent(sweep: Sweep) -> None:
    """Windows of one document are one cluster; four documents make a wider interval than eight."""
    sides = ("bits=w4a16 group_size=g32", "method=rtn bits=w4a16 group_size=g64")
    alone = sweep.decide(*sides).comparisons[0].effect
    for record in sweep.records:
        for entry in record.stages:
            if entry.stage == "eval":
                documents = [window // 2 for window in range(WINDOWS)]
                unread(entry).result["perplexity"]["sample"] |= {
                    "clusters": "documents", "window_documents": documents,
                }  # fmt: skip
    effect = sweep.decide(*sides).comparisons[0].effect
    assert alone is not None
    assert effect is not None
    assert effect.estimate == alone.estimate
    # First order around both perplexities, over four documents.
    left, right = losses(0.10).astype(float), losses(0.12).astype(float)
    linear = np.exp(left.mean()) * left.mean(axis=1) - np.exp(right.mean()) * right.mean(axis=1)
    blocks = linear.reshape(4, 2).mean(axis=1)
    half = stats.t.ppf(0.975, 3) * blocks.std(ddof=1) / 2
    assert (effect.high - effect.low) / 2 == pytest.approx(half, rel=1e-4)


def test_other_weights_or_tokens_behind_a_name_are_not_compared(sweep: Sweep) -> None:
    sides = ("bits=w4a16 group_size=g32", "method=rtn bits=w4a16 group_size=g64")
    one, other = sweep.records[:2]
    one.model_fingerprint, other.model_fingerprint = (
        "model-files:aaaaaaaaa",
        "model-files:bbbbbbbbb",
    )
    (found,) = sweep.decide(*sides).comparisons
    assert found.verdict == f"{CANNOT_TELL}: the unquantized models differ (aaaaaaaa and bbbbbbbb)"
    other.model_fingerprint = one.model_fingerprint
    for record, digest in ((one, "11111111"), (other, "22222222")):
        for entry in record.stages:
            if entry.stage == "eval":
                unread(entry).result["perplexity"]["sample"]["tokens_sha256"] = digest
    (found,) = sweep.decide(*sides).comparisons
    assert found.verdict == f"{CANNOT_TELL}: the tokens evaluated differ (11111111 and 22222222)"
