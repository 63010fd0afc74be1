"""Perplexity of known losses and its change against the unquantized model."""

import math

import numpy as np
import pytest

from runner.metrics.perplexity import gptq_protocol, perplexity, perplexity_change
from runner.metrics.statistics import mean_interval

pytestmark = pytest.mark.unit


def test_the_protocol_names_its_context_length() -> None:
    assert gptq_protocol(2048) == "gptq_2048"


def test_of_known_losses() -> None:
    losses = np.array([[1.0, 3.0], [2.0, 4.0]], dtype=np.float32)
    found = perplexity(losses, "gptq_3")
    assert found.value == pytest.approx(math.exp(2.5))
    assert found.window_losses == [2.0, 3.0]
    assert (found.windows, found.tokens_scored, found.protocol) == (2, 4, "gptq_3")


def test_a_uniform_guess_is_as_perplexed_as_there_are_tokens() -> None:
    losses = np.full((3, 7), math.log(49152), dtype=np.float32)
    assert perplexity(losses, "gptq_8").value == pytest.approx(49152, rel=1e-5)


def test_many_small_losses_are_summed_without_losing_digits() -> None:
    losses = np.full((1, 1_000_000), 0.1, dtype=np.float32)
    assert perplexity(losses, "gptq").value == pytest.approx(math.exp(np.float32(0.1)), rel=1e-12)


def simulated(shift: float, windows: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Losses of two models on the same tokens: what is hard for one is hard for the other."""
    generator = np.random.default_rng(3)
    base = generator.gamma(2.0, 1.4, (windows, 64)) + generator.normal(0, 0.3, (windows, 1))
    quantized = base + generator.normal(shift, 0.1, base.shape)
    return quantized.astype(np.float32), base.astype(np.float32)


def test_change_is_that_of_both_perplexities() -> None:
    quantized, base = simulated(0.05)
    change = perplexity_change(quantized, base)
    one, other = perplexity(quantized, "").value, perplexity(base, "").value
    assert change.baseline == pytest.approx(other)
    assert change.delta.estimate == pytest.approx(one - other)
    assert change.ratio.estimate == pytest.approx(one / other)


def test_ratio_and_delta_agree_to_first_order() -> None:
    quantized, base = simulated(0.01)
    change = perplexity_change(quantized, base)
    ratio, delta = change.ratio, change.delta
    assert change.baseline * (ratio.estimate - 1) == pytest.approx(delta.estimate, rel=1e-6)
    widths = change.baseline * (ratio.high - ratio.low), delta.high - delta.low
    assert widths[0] == pytest.approx(widths[1], rel=0.05)
    assert delta.low < delta.estimate < delta.high


def test_interval_is_paired() -> None:
    quantized, base = simulated(0.05)
    change = perplexity_change(quantized, base)
    alone = mean_interval(np.asarray(perplexity(quantized, "").window_losses))
    assert math.log(change.ratio.high / change.ratio.low) < 0.2 * (alone.high - alone.low)
    assert change.ratio.low > 1


def test_the_ratios_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(4)
    hits = 0
    for _ in range(300):
        base = generator.normal(3.0, 0.3, (8, 4))
        change = perplexity_change(base + generator.normal(0.02, 0.02, (8, 4)), base)
        hits += change.ratio.low <= math.exp(0.02) <= change.ratio.high
    assert hits / 300 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 300))


def test_a_model_against_itself_has_not_changed() -> None:
    losses, _ = simulated(0.0)
    change = perplexity_change(losses, losses)
    assert (change.ratio.low, change.ratio.estimate, change.ratio.high) == (1.0, 1.0, 1.0)
    assert (change.delta.low, change.delta.estimate, change.delta.high) == (0.0, 0.0, 0.0)


def test_a_single_window_has_no_bounds_and_breaks_nothing() -> None:
    quantized, base = simulated(0.05, windows=1)
    change = perplexity_change(quantized, base)
    assert (change.ratio.low, change.ratio.high) == (0.0, math.inf)
