"""Intervals that hold both sources, the text and the draws of a recipe, are as wide as they say."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

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
