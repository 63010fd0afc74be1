"""Intervals that hold both sources, the text and the draws of a recipe, are as wide as they say."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from runner.evaluation.metrics.crossed import crossed_interval
from runner.evaluation.metrics.statistics import cluster_interval

pytestmark = pytest.mark.unit

Array = NDArray[np.float64]
TRIES = 2_000


def drawn(
    noise: np.random.Generator, draws: int, clusters: int, of_draws: float, of_clusters: float
) -> Array:
    """Losses with a true mean of 0: what draws do, what clusters do, and what each pair does."""
    return (
        noise.normal(0, of_draws, (draws, 1))
        + noise.normal(0, of_clusters, (1, clusters))
        + noise.normal(0, 0.5, (draws, clusters))
    )


def coverage(
    draws: int, clusters: int, of_draws: float, of_clusters: float, second: int = 0
) -> float:
    noise = np.random.default_rng(1000 * draws + clusters)
    sizes = np.ones(clusters)
    held = 0
    for _ in range(TRIES):
        one = drawn(noise, draws, clusters, of_draws, of_clusters)
        # Both recipes meet the same text, which is hard for both alike.
        other = drawn(noise, second, clusters, of_draws, 0.0) if second else None
        found = crossed_interval(one, sizes, other)
        held += found.low <= 0 <= found.high
    return held / TRIES


@pytest.mark.parametrize("clusters", [8, 16])
@pytest.mark.parametrize(("of_draws", "of_clusters"), [(0.25, 1.0), (0.5, 1.0), (1.0, 0.5)])
@pytest.mark.parametrize("draws", [3, 4, 8])
def test_the_interval_covers_as_it_says(
    draws: int, clusters: int, of_draws: float, of_clusters: float
) -> None:
    assert 0.935 <= coverage(draws, clusters, of_draws, of_clusters) <= 0.975


@pytest.mark.parametrize("of_draws", [0.0, 0.25, 1.0])
def test_two_draws_make_a_wide_interval_rather_than_a_wrong_one(of_draws: float) -> None:
    assert coverage(2, 16, of_draws, 0.5) >= 0.93


@pytest.mark.parametrize("draws", [(4, 4), (8, 3)])
def test_so_does_the_interval_of_a_difference(draws: tuple[int, int]) -> None:
    for of_draws in (0.25, 1.0):
        assert 0.935 <= coverage(draws[0], 16, of_draws, 0.5, draws[1]) <= 0.985


def test_one_draw_has_the_interval_of_its_text() -> None:
    noise = np.random.default_rng(1)
    sizes = np.array([511.0, 300.0, 511.0, 40.0, 511.0])
    sums = noise.normal(3.0, 0.2, 5) * sizes
    expected = cluster_interval(sums, sizes)
    found = crossed_interval(sums[None], sizes)
    for name in ("estimate", "low", "high"):
        # Student's quantile may come from a table of four digits.
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-4)
    assert math.isinf(crossed_interval(sums[None, :1], sizes[:1]).high)


def test_draws_widen_what_the_text_alone_leaves_narrow() -> None:
    """Seeds 0 to 3 differ as the issue's do: 3% around their mean, on a text that hardly speaks."""
    sizes = np.full(16, 511.0)
    text = np.random.default_rng(0).normal(0, 0.005, 16)
    seeds = np.array([0.376, 0.367, 0.345, 0.402])
    sums = (seeds[:, None] + text) * sizes
    found, alone = crossed_interval(sums, sizes), crossed_interval(sums[:1], sizes)
    assert found.estimate == pytest.approx(0.3725, abs=0.01)
    expected = 3.182 * seeds.std(ddof=1) / 2
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.02)
    assert found.high - found.low > 5 * (alone.high - alone.low)


def test_a_paired_difference_takes_out_what_both_share() -> None:
    """The same seeds' calibration text and the same windows cancel, draw by draw."""
    noise = np.random.default_rng(2)
    shared = drawn(noise, 4, 16, 1.0, 1.0)
    found = crossed_interval((shared + 0.1) - shared, np.ones(16))
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("sums", "text", "draws"),
    [
        # Mean squares of draws, clusters and the rest: A = 6, B = 6, E = 2.
        ([[1, 3], [3, 7], [5, 5]], 6 / 6, (6 - 2) / 6),
        # A = 9, B = 9; of two draws E = 1 is not taken off.
        ([[1, 3], [3, 7]], 9 / 4, 9 / 4),
        # A = 0 is less than E = 4: draws add nothing.
        ([[1, 3], [3, 1], [2, 2]], 0.0, 0.0),
        ([[1, 3]], 2 / 2, 0.0),
    ],
)
def test_the_interval_by_hand(sums: list[list[float]], text: float, draws: float) -> None:
    found = crossed_interval(np.array(sums, float), np.ones(2))
    many = len(sums)
    t = [float(stats.t.ppf(0.975, freedom)) for freedom in (1, max(1, many - 1))]
    half = math.sqrt(t[0] ** 2 * text + t[1] ** 2 * draws)
    mean = float(np.mean(sums))
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (mean, mean - half, mean + half)
    )


def test_one_cluster_has_an_estimate_only() -> None:
    found = crossed_interval(np.array([[6.0], [10.0]]), np.array([4.0]))
    assert (found.estimate, found.low, found.high) == (2.0, -math.inf, math.inf)


def test_a_difference_has_both_sides_draws() -> None:
    """Equal clusters cancel the text; each side's draws count by themselves."""
    one, other = np.array([[1.0, 3.0], [3.0, 5.0]]), np.array([[2.0, 4.0]])
    found = crossed_interval(one, np.ones(2), other)
    # A = 2 x (1 + 1) = 4 over S x C = 4; the other was drawn once.
    half = float(stats.t.ppf(0.975, 1)) * 1.0
    assert (found.estimate, found.low, found.high) == pytest.approx((0.0, -half, half))
