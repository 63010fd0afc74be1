"""Perplexity of known losses and its change against the unquantized model."""

import math

import numpy as np
import pytest

from runner.config.schema.eval import PerplexityProtocol
from runner.data.texts.protocols import protocol_name
from runner.evaluation.metrics.perplexity import perplexity, perplexity_change
from runner.evaluation.metrics.statistics import cluster_interval, mean_interval

pytestmark = pytest.mark.unit


def test_the_protocol_names_its_context_length() -> None:
    assert protocol_name(PerplexityProtocol.gptq, 2048) == "gptq_2048"


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


def test_words_and_bytes_divide_the_loss_of_all_tokens() -> None:
    windows = [np.array([1.0, 3.0], np.float32), np.array([2.0], np.float32)]
    by_word = perplexity(windows, "lm_eval_2", "word", 4)
    by_byte = perplexity(windows, "lm_eval_2", "byte", 24)
    assert by_word.value == pytest.approx(math.exp((1 + 3 + 2) / 4))
    assert by_byte.value == pytest.approx(math.exp((1 + 3 + 2) / 24))
    assert (by_word.metric, by_byte.metric) == (
        "word_perplexity/lm_eval_2",
        "byte_perplexity/lm_eval_2",
    )
    assert (by_word.windows, by_word.tokens_scored) == (2, 3)
    assert by_word.window_losses == [2.0, 2.0]


def test_change_per_word_scales_the_logarithm_of_that_per_token() -> None:
    quantized, base = simulated(0.05)
    tokens = perplexity_change(quantized, base)
    words = perplexity_change(quantized, base, units=quantized.size // 2)
    for bound in ("low", "estimate", "high"):
        assert math.log(getattr(words.ratio, bound)) == pytest.approx(
            2 * math.log(getattr(tokens.ratio, bound))
        )
    assert words.delta.estimate == pytest.approx(
        perplexity(quantized, "", "word", quantized.size // 2).value - words.baseline
    )
    assert words.delta.low < words.delta.estimate < words.delta.high


def test_clusters_of_equal_size_are_their_means() -> None:
    members = np.random.default_rng(5).normal(1.0, 0.2, (12, 7))
    ratio = cluster_interval(members.sum(axis=1), np.full(12, 7.0))
    mean = mean_interval(members.mean(axis=1))
    assert vars(ratio) == pytest.approx(vars(mean))


def test_the_interval_of_unequal_clusters_covers_the_truth() -> None:
    generator = np.random.default_rng(6)
    hits = 0
    for _ in range(300):
        sizes = generator.integers(5, 60, 20)
        shifts = generator.normal(2.0, 0.3, 20)
        sums = np.array(
            [generator.normal(s, 1.0, n).sum() for s, n in zip(shifts, sizes, strict=True)]
        )
        found = cluster_interval(sums, sizes.astype(float))
        hits += found.low <= 2.0 <= found.high
    assert 0.90 < hits / 300 < 0.98


def test_a_loss_too_large_for_a_number_is_infinite() -> None:
    assert perplexity([np.array([699.0])], "p").value == pytest.approx(math.exp(699))
    assert perplexity([np.array([701.0])], "p").value == math.inf
