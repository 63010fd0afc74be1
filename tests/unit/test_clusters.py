"""Intervals whose independent units are documents: against formulas, and by simulation."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from runner.data.texts.sample import Sample, describe
from runner.evaluation.metrics.perplexity import perplexity, perplexity_change
from runner.evaluation.metrics.statistics import (
    Interval,
    cluster_interval,
    effective_number,
    intraclass_correlation,
)

pytestmark = pytest.mark.unit

STORED = Path(__file__).parent / "data" / "article_losses.json"
"""Losses of windows of many articles: ``python -m benchmarks.article_losses`` made it."""
DRAWS = 4000


def test_clusters_of_one_are_windows_and_the_order_does_not_count() -> None:
    generator = np.random.default_rng(0)
    sums, sizes = generator.normal(100, 20, 12), generator.integers(20, 60, 12).astype(float)
    plain = cluster_interval(sums, sizes)
    assert cluster_interval(sums, sizes, list(range(12))) == plain
    labels = generator.integers(0, 5, 12).tolist()
    order = generator.permutation(12)
    found = cluster_interval(sums, sizes, labels)
    mixed = cluster_interval(sums[order], sizes[order], [labels[i] for i in order])
    assert (mixed.low, mixed.high) == pytest.approx((found.low, found.high))
    assert found.estimate == pytest.approx(plain.estimate), "the estimate is the same"


def test_equal_clusters_have_students_interval_of_their_means() -> None:
    values = np.random.default_rng(1).normal(0, 1, (9, 4))
    labels = np.repeat(np.arange(9), 4).tolist()
    found = cluster_interval(values.ravel() * 50, np.full(36, 50.0), labels)
    test = stats.ttest_1samp(values.mean(1), 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((test.low, test.high))


def test_one_cluster_has_no_interval() -> None:
    found = cluster_interval(np.array([1.0, 3.0]), np.ones(2), [7, 7])
    assert found == Interval(2.0, -math.inf, math.inf)


def test_intraclass_correlation_is_that_of_the_analysis_of_variance() -> None:
    """The example of Shrout and Fleiss (Psychological Bulletin 86, 1979): ICC(1,1) is 0.17."""
    ratings = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    )
    labels = np.repeat(np.arange(6), 4).tolist()
    assert intraclass_correlation(ratings.ravel() * 1.0, labels) == pytest.approx(0.17, abs=0.005)


def test_intraclass_correlation_of_unequal_clusters_is_what_was_put_in() -> None:
    generator = np.random.default_rng(2)
    found = []
    for _ in range(200):
        sizes = generator.integers(1, 6, 30)
        labels = np.repeat(np.arange(30), sizes)
        shared = generator.normal(0, math.sqrt(0.4), 30)
        values = shared[labels] + generator.normal(0, math.sqrt(0.6), len(labels))
        found.append(intraclass_correlation(values, labels.tolist()))
    assert np.mean([one for one in found if one is not None]) == pytest.approx(0.4, abs=0.02)


def test_correlation_and_effective_number_where_they_cannot_be_told() -> None:
    assert intraclass_correlation(np.array([1.0, 2.0, 3.0]), [0, 1, 2]) is None
    assert intraclass_correlation(np.array([1.0, 2.0, 3.0]), [4, 4, 4]) is None
    assert intraclass_correlation(np.ones(4), [0, 0, 1, 1]) is None
    assert effective_number([0, 1, 2], None) == 3.0, "each its own document: all of them count"
    assert effective_number([4, 4, 4], None) is None
    assert effective_number([0, 0, 1, 1], 1.0) == 2.0
    assert effective_number([0, 0, 1, 1], -0.3) == 4.0
    assert effective_number([0, 0, 0, 1], 0.5) == pytest.approx(4 / (1 + (10 / 4 - 1) * 0.5))


def test_a_result_knows_its_documents_and_what_its_windows_are_worth() -> None:
    generator = np.random.default_rng(3)
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    base = [generator.normal(3, 1, 32) for _ in labels]
    own = [one + 0.2 * (1 + label % 2) for one, label in zip(base, labels, strict=True)]
    sample = Sample("spread", window_documents=labels, documents=4, documents_available=9,
                    clusters="documents")  # fmt: skip
    found = perplexity(own, "spread_32", sample=sample, baseline_losses=base)
    assert (found.units_scored, found.window_tokens) == (12 * 32, [32] * 12)
    assert found.icc == pytest.approx(1.0)
    assert found.effective_windows == pytest.approx(4.0)
    said = describe(sample, found.icc, found.effective_windows)
    assert said == (
        "12 windows spread over 4 of 9 documents, which intervals treat as clusters (intraclass "
        "correlation 1.00: worth 4.0 independent windows)"
    )
    ratio = perplexity_change(own, base, clusters=sample.independent()).ratio
    half = float(stats.t.ppf(0.975, 3)) * 0.1 * math.sqrt(4 / 3) / 2
    assert math.log(ratio.high) == pytest.approx(0.3 + half)
    apart = perplexity_change(own, base).ratio
    assert apart.high < ratio.high, "windows that are taken as independent promise too much"


def test_what_stands_behind_an_interval_is_said() -> None:
    old = Sample()
    assert describe(old, None, None) is None
    one = Sample(window_documents=[0, 0], documents=1, documents_available=96)
    assert "intervals describe that document only" in (describe(one, None, None) or "")
    each = Sample("spread", window_documents=[3, 9], documents=2, documents_available=96,
                  left_out=1, clusters="documents")  # fmt: skip
    assert describe(each, None, 2.0) == (
        "2 windows spread over 2 of 96 documents, one per document; 1 skipped, with almost no "
        "distinct tokens"
    )


@pytest.fixture(scope="module")
def differences() -> dict[str, NDArray[np.float64]]:
    """By quantity, of shape (articles, windows): what a default run averages, in nats a token."""
    content = json.loads(STORED.read_text("utf-8"))
    values = np.array([article["windows"] for article in content["articles"]])
    return {"log ratio": values[:, :, 1] - values[:, :, 0], "KL divergence": values[:, :, 2]}


def coverage(
    values: NDArray[np.float64], documents: int, windows: int, *, clusters: bool = True
) -> float:
    """How often an interval of drawn articles' windows holds the mean of all articles.

    Args:
        values: Of shape (articles, windows).
        documents: Articles to draw, with replacement.
        windows: Windows of each.
        clusters: Whether the interval knows which windows are of one article.
    """
    generator = np.random.default_rng(documents * 100 + windows)
    truth, hits = values.mean(), 0
    labels = np.repeat(np.arange(documents), windows).tolist() if clusters else None
    for _ in range(DRAWS):
        drawn = values[generator.integers(0, len(values), documents)]
        chosen = generator.permuted(drawn, axis=1)[:, :windows].ravel()
        found = cluster_interval(chosen, np.ones(len(chosen)), labels)
        hits += found.low <= truth <= found.high
    return hits / DRAWS


@pytest.mark.parametrize("quantity", ["log ratio", "KL divergence"])
@pytest.mark.parametrize(
    ("documents", "windows"), [(8, 1), (16, 1), (32, 1), (8, 2), (16, 2), (8, 4)]
)
def test_intervals_cover_the_text_as_often_as_they_say(
    quantity: str, documents: int, windows: int, differences: dict[str, NDArray[np.float64]]
) -> None:
    covered = coverage(differences[quantity], documents, windows)
    assert 0.93 <= covered <= 0.97, f"{quantity}, {documents} x {windows}: {covered:.3f}"


@pytest.mark.parametrize(("quantity", "most"), [("log ratio", 0.89), ("KL divergence", 0.85)])
def test_windows_of_one_article_cover_far_less(
    quantity: str, most: float, differences: dict[str, NDArray[np.float64]]
) -> None:
    """The default of older versions: all six windows are of one article.

    Windows of 64 tokens have much noise of their own, which hides how alike those of an article
    are. Of longer ones, and of more, an interval covers less still.
    """
    values = differences[quantity]
    covered = coverage(values, 1, values.shape[1], clusters=False)
    assert covered <= most, f"{quantity}: {covered:.3f}"


def test_windows_are_not_independent_because_there_are_many(
    differences: dict[str, NDArray[np.float64]],
) -> None:
    values = differences["KL divergence"]
    labels = np.repeat(np.arange(len(values)), values.shape[1]).tolist()
    correlation = intraclass_correlation(values.ravel(), labels)
    assert correlation is not None and correlation > 0.1
    assert coverage(values, 4, 6, clusters=False) < 0.88 < coverage(values, 4, 6)
