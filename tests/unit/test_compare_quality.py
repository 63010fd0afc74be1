"""Compare's quality: the record's own ratio under its own name, paired on the same tokens alone."""

import copy
import math
from typing import Any

import numpy as np
import pytest

from runner.data.texts.sample import DOCUMENTS, SPREAD, Sample
from runner.evaluation.metrics.divergence import Divergence
from runner.evaluation.metrics.perplexity import perplexity, perplexity_change
from runner.reporting.compare.figure import NOT_PAIRED, Figure
from runner.reporting.compare.figures import figures
from runner.reporting.compare.find import Side
from runner.reporting.compare.pairs import pair_up
from runner.reporting.compare.show import show
from runner.store.records import RunRecord
from runner.util.serialise import to_json
from tests.unit.records import CONFIG, completed, content_of, record, stage

pytestmark = pytest.mark.unit

LENGTHS = (120, 511, 40, 511, 300, 511)
WORDS = 1_300
DOCUMENT = (0, 1, 1, 2, 3, 3)


def losses(worse: float, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    noise = np.random.default_rng(seed)
    return [noise.normal(3.0 + worse * (1 + 0.2 * n), 0.3, size) for n, size in enumerate(LENGTHS)]


def measured(rows: list[Any], base: list[Any] | None, protocol: str, **sample: Any) -> Any:
    units = [("word", WORDS), ("byte", 6 * WORDS)] if "lm_eval" in protocol else [("token", None)]
    found = []
    for unit, count in units:
        one = perplexity(rows, protocol, unit, count)
        one.window_tokens, one.units_scored = list(LENGTHS), count or sum(LENGTHS)
        one.sample = Sample(**sample)
        change = None if base is None else perplexity_change(rows, base, count)
        found.append({"perplexity": to_json(one), "change": to_json(change)})
    return found


def run(worse: float, protocols: tuple[str, ...] = ("lm_eval_512",), **changes: Any) -> RunRecord:
    sample: dict[str, Any] = {"tokens_sha256": "aaaa1111", **changes.pop("sample", {})}
    arithmetic = changes.pop("arithmetic", "float32")
    stages = []
    for subject, own in (("baseline", losses(0.0)), ("recipe", losses(worse))):
        base = None if subject == "baseline" else losses(0.0)
        rows = [one for name in protocols for one in measured(own, base, name, **sample)]
        result = {**rows[0], "further": rows[1:], "arithmetic": arithmetic}
        stages.append(stage("eval", subject, result))
    known: dict[str, Any] = {"model_fingerprint": "package:4:ffff", "text_sha256": "11"}
    return record(0, f"r{worse}", stages, **{**known, **changes})


def found_in(a: RunRecord, b: RunRecord) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(a, b)}


def test_the_ratio_is_the_records_own_and_has_its_name() -> None:
    """The protocol of lm_eval counts words: windows' exponentials have another ratio."""
    a, b = run(0.1), run(0.3)
    shown = found_in(a, b)
    assert list(shown) == ["word_perplexity/lm_eval_512", "byte_perplexity/lm_eval_512"]
    for figure in shown.values():
        assert figure.ratio is not None
        assert figure.ratio.estimate == pytest.approx(figure.b / figure.a, rel=1e-9)
        assert figure.verdict == "worse"
    wrong = math.exp(np.mean([math.log(np.exp(x.mean())) for x in losses(0.3)]) - np.mean(
        [x.mean() for x in losses(0.1)]
    ))  # fmt: skip
    ratio = shown["word_perplexity/lm_eval_512"].ratio
    assert ratio is not None
    assert abs(ratio.estimate - wrong) > 0.1


def test_a_run_against_the_unquantized_model_has_the_interval_of_its_record() -> None:
    recorded = content_of(run(0.2), "eval")
    assert recorded is not None
    dense = run(0.2)
    dense.stages = dense.stages[:1]
    figure = found_in(dense, run(0.2))["word_perplexity/lm_eval_512"]
    assert figure.ratio is not None
    for end in ("estimate", "low", "high"):
        assert getattr(figure.ratio, end) == pytest.approx(recorded["change"]["ratio"][end])


def test_every_protocol_of_both_is_compared() -> None:
    both = ("spread_512", "gptq_512")
    assert list(found_in(run(0.1, both), run(0.2, both))) == [
        "perplexity/spread_512", "perplexity/gptq_512",
    ]  # fmt: skip
    assert list(found_in(run(0.1, both), run(0.2, ("gptq_512",)))) == ["perplexity/gptq_512"]


def test_documents_are_what_is_independent_where_the_sample_says_so() -> None:
    told = {"sampling": SPREAD, "clusters": DOCUMENTS, "window_documents": list(DOCUMENT)}
    by_document = found_in(
        run(0.1, ("spread_512",), sample=told), run(0.2, ("spread_512",), sample=told)
    )["perplexity/spread_512"].ratio
    by_window = found_in(run(0.1, ("spread_512",)), run(0.2, ("spread_512",)))[
        "perplexity/spread_512"
    ].ratio
    assert by_document is not None
    assert by_window is not None
    assert by_document.estimate == by_window.estimate
    sizes = np.bincount(DOCUMENT, LENGTHS)
    sums = np.bincount(
        DOCUMENT, [y.sum() - x.sum() for x, y in zip(losses(0.1), losses(0.2), strict=True)]
    )
    residuals = (sums - sums.sum() / sizes.sum() * sizes) * (4 / sizes.sum())
    half = 3.182446 * residuals.std(ddof=1) / 2
    assert math.log(by_document.high / by_document.estimate) == pytest.approx(half, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sample": {"tokens_sha256": "bbbb2222"}}, "tokens evaluated differ (aaaa1111 and bbbb"),
        ({"model_fingerprint": "package:4:eeee"}, "unquantized models differ (ffff and eeee)"),
        ({"arithmetic": "bfloat16"}, "computed in bfloat16 and in float32"),
    ],
)
def test_what_differs_is_named_and_has_no_ratio(
    changes: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = run(0.1), run(0.3, **changes)
    figure = found_in(a, b)["word_perplexity/lm_eval_512"]
    assert (figure.verdict, figure.ratio) == (NOT_PAIRED, None)
    sides = Side("a", [a], True), Side("b", [b], True)
    show(*sides, pair_up(*sides))
    printed = capsys.readouterr().out
    assert says in printed.replace("(bbbb2222 and aaaa", "(aaaa1111 and bbbb").replace(
        "(eeee and ffff)", "(ffff and eeee)"
    )
    assert "2 not paired" in printed


def without_digests(made: RunRecord) -> RunRecord:
    """As a version before this one wrote it."""
    made = copy.deepcopy(made)
    made.model_fingerprint = None
    for entry in made.stages:
        del entry.result["arithmetic"]
        for one in (entry.result, *entry.result["further"]):
            for name in ("sample", "units_scored"):
                del one["perplexity"][name]
    return made


def test_older_records_are_paired_where_the_unquantized_model_shows_the_same() -> None:
    a, b = (without_digests(run(worse)) for worse in (0.1, 0.3))
    name = "word_perplexity/lm_eval_512"
    figure = found_in(a, b)[name]
    assert figure.ratio is not None
    assert figure.ratio.estimate == pytest.approx(figure.b / figure.a)
    # Against one of this version too; not where the unquantized model scored otherwise.
    assert found_in(a, run(0.3))[name].ratio is not None
    other = copy.deepcopy(b)
    content_of(other, "eval", "baseline")["perplexity"]["window_losses"][2] += 0.01
    assert found_in(a, other)[name].verdict == NOT_PAIRED
    alone = copy.deepcopy(b)
    del alone.stages[0]
    assert found_in(a, alone)[name].verdict == NOT_PAIRED
    b.text_sha256 = "22"
    assert found_in(a, b)[name].verdict == NOT_PAIRED
    a.text_sha256 = None
    a.config = CONFIG | {"eval": {"text": {"name": "bible"}}}
    assert found_in(a, b)[name].verdict == NOT_PAIRED


def test_nothing_in_common_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    sides = (
        Side("a", [run(0.1, ("gptq_512",))], True), Side("b", [run(0.1, ("spread_512",))], True),
    )  # fmt: skip
    show(*sides, pair_up(*sides))
    assert "perplexity/gptq_512 in a and perplexity/spread_512 in b are not comparable" in (
        capsys.readouterr().out
    )


def with_divergence(made: RunRecord, per_window: list[float], agreement: float) -> RunRecord:
    entry = content_of(made, "eval")
    assert entry is not None
    entry["divergence"] = completed(
        Divergence,
        {
            "protocol": "spread_512",
            "window_kl_divergence": per_window,
            "window_top_1_agreement": [agreement + shift / 100 for shift in (1, -1, 1, -1, 1, -1)],
            "top_1_agreement": {"mean": {"estimate": agreement}},
        },
    )
    return made


def test_divergences_from_one_reference_are_paired() -> None:
    near, far = [0.02, 0.03, 0.02, 0.03, 0.02, 0.03], [0.04, 0.06, 0.05, 0.06, 0.05, 0.06]
    a = with_divergence(run(0.1, ("spread_512",)), near, 0.95)
    b = with_divergence(run(0.2, ("spread_512",)), far, 0.91)
    shown = found_in(a, b)
    figure = shown["kl_divergence/spread_512"]
    assert figure.difference is not None
    expected = np.dot(np.subtract(far, near), LENGTHS) / sum(LENGTHS)
    assert figure.difference.estimate == pytest.approx(expected)
    assert figure.b - figure.a == pytest.approx(expected)
    assert figure.verdict == "worse"
    assert figure.difference.low > 0
    agreement = shown["top_1_agreement/spread_512"]
    assert (agreement.a, agreement.verdict) == (0.95, "worse")
    assert agreement.difference is not None
    assert agreement.difference.estimate == pytest.approx(-0.04)
    content_of(b, "eval", "baseline")["perplexity"]["window_losses"][0] += 0.1
    figure = found_in(a, b)["kl_divergence/spread_512"]
    assert (figure.verdict, figure.difference) == (NOT_PAIRED, None)


def asked(made: RunRecord, right: str, items: str = "i") -> RunRecord:
    score = {"metric": "acc", "filter": "none", "value": right.count("1") / len(right),
             "change": None, "outcomes": right, "items_sha256": items}  # fmt: skip
    tasks = [{"task": name, "scores": [score], "asked_for": True} for name in ("facts", "sums")]
    made.stages.append(stage("tasks", "recipe", {"tasks": tasks, "overall": None}))
    return made


def test_right_answers_are_compared_item_by_item() -> None:
    before, after = "10" * 100, "0" * 30 + "10" * 85
    names = ["acc/facts", "acc/sums", "accuracy/mean of 2 tasks"]
    shown = found_in(asked(run(0.1), before), asked(run(0.1), after))
    assert [name for name in shown if "acc" in name] == names
    for name in names:
        figure = shown[name]
        assert figure.verdict == "worse"
        assert figure.difference is not None
        assert figure.difference.estimate == pytest.approx(-0.075)
    few = found_in(asked(run(0.1), before), asked(run(0.1), "00" + before[2:]))
    assert [few[name].verdict for name in names] == ["within noise"] * 3
    other = found_in(asked(run(0.1), before), asked(run(0.1), after, items="j"))
    assert [other[name].verdict for name in names] == [NOT_PAIRED] * 3


def test_few_changed_answers_are_noise_though_their_interval_leaves_zero_out() -> None:
    """Five gained and none lost of 400: Student's t shows it, the exact test has p = 0.06."""
    before = "10" * 200
    shown = found_in(asked(run(0.1), before), asked(run(0.1), "1" * 10 + before[10:]))
    figure = shown["acc/facts"]
    assert figure.difference is not None
    assert 0 < figure.difference.low < figure.difference.estimate == pytest.approx(5 / 400)
    assert figure.verdict == "within noise"
    # Of both tasks ten were gained.
    assert shown["accuracy/mean of 2 tasks"].verdict == "better"


def test_right_answers_of_other_arithmetic_are_not_mixed_unasked() -> None:
    a, b = asked(run(0.1), "10" * 100), asked(run(0.1), "10" * 100)
    for one, arithmetic in ((a, "float32"), (b, "bfloat16")):
        tasks = content_of(one, "tasks")
        assert tasks is not None
        tasks["arithmetic"] = arithmetic
    figure = found_in(a, b)["acc/facts"]
    assert (figure.verdict, figure.reason) == (NOT_PAIRED, "computed in float32 and in bfloat16")
    mixed = {figure.name: figure for figure in figures(a, b, allow_different_dtypes=True)}
    assert mixed["acc/facts"].verdict == "equal"


def test_older_answers_are_compared_by_what_their_intervals_allow() -> None:
    """Each is known within 0.03 of the unquantized model's: together within 0.06."""
    runs = []
    for delta in (-0.01, -0.08):
        change = {
            "baseline": 0.5,
            "delta": delta,
            "delta_interval": {"estimate": delta, "low": delta - 0.03, "high": delta + 0.03},
        }
        score = {"metric": "acc", "filter": "none", "value": 0.5 + delta, "change": change}
        made = run(0.1)
        tasks = {
            "tasks": [{"task": "facts", "scores": [score], "asked_for": True}],
            "overall": None,
        }
        made.stages.append(stage("tasks", "recipe", tasks))
        runs.append(made)
    figure = found_in(*runs)["acc/facts"]
    assert figure.difference is not None
    assert figure.difference.low == pytest.approx(-0.13)
    assert figure.difference.high == pytest.approx(-0.01)
    assert figure.verdict == "worse"


def test_what_arithmetic_makes_by_itself_is_noise() -> None:
    runs = [run(worse, ("spread_512",), arithmetic="bfloat16") for worse in (0.1, 0.11)]
    name = "perplexity/spread_512"
    assert found_in(*runs)[name].verdict == "worse"
    change = {"ratio": {"estimate": 1.01, "low": 0.99, "high": 1.03}}
    runs[0].stages.append(stage("floor", "baseline", {"arithmetic": "bfloat16", "change": change}))
    assert found_in(*runs)[name].verdict == "within noise"
