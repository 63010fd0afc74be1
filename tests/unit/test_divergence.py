"""Divergence of distributions, against plain double-precision arithmetic."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runner.engines.distributions import (
    TOP_FIELDS,
    FullDistributions,
    TopDistributions,
    log_softmax,
)
from runner.errors import StageError
from runner.evaluation.metrics.divergence import (
    summarise_divergence,
    token_divergence,
    top_divergence,
)
from runner.evaluation.metrics.reference import (
    Reference,
    ReferenceWriter,
    decode,
    encode,
    losses_of,
)

pytestmark = pytest.mark.unit

TOKENS, VOCABULARY = 60, 500


def pair(seed: int = 0, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of two similar models, and right tokens."""
    generator = np.random.default_rng(seed)
    base = generator.normal(0, 4, (TOKENS, VOCABULARY))
    own = base + generator.normal(0, noise, base.shape)
    right = generator.integers(0, VOCABULARY, TOKENS)
    return base.astype(np.float32), own.astype(np.float32), right


def probabilities(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64))
    return weights / weights.sum(axis=1, keepdims=True)


def distributions(logits: np.ndarray) -> FullDistributions:
    """In chunks of uneven sizes, which are overwritten as an engine may do."""

    def chunks() -> Iterator[np.ndarray]:
        for part in np.split(log_softmax(logits), [7, 32]):
            yield part
            part[:] = np.nan

    return FullDistributions(logits.shape[1], chunks())


def test_against_the_definition() -> None:
    base, own, _ = pair()
    p, q = probabilities(base), probabilities(own)
    kl, reverse, same, _ = token_divergence(log_softmax(base), log_softmax(own))
    assert kl == pytest.approx((p * np.log(p / q)).sum(axis=1), rel=1e-4, abs=1e-6)
    assert reverse == pytest.approx((q * np.log(q / p)).sum(axis=1), rel=1e-4, abs=1e-6)
    assert same.tolist() == (p.argmax(axis=1) == q.argmax(axis=1)).tolist()
    assert 0 < same.sum() < TOKENS


def test_a_model_does_not_diverge_from_itself() -> None:
    base, _, _ = pair()
    kl, reverse, same, _ = token_divergence(log_softmax(base), log_softmax(base))
    assert not kl.any()
    assert not reverse.any()
    assert same.all()


def test_the_summary_against_numpy_on_the_tokens() -> None:
    """Every figure that ``llama-perplexity --kl-divergence`` prints, by its formula."""
    windows, losses, base_losses, p_right, q_right = [], [], [], [], []
    for seed in range(5):
        base, own, right = pair(seed)
        p, q = (probabilities(x)[np.arange(TOKENS), right] for x in (base, own))
        p_right.append(p), q_right.append(q)
        windows.append(token_divergence(log_softmax(base), log_softmax(own)))
        losses.append(-np.log(q).astype(np.float32))
        base_losses.append(-np.log(p).astype(np.float32))
    found = summarise_divergence("gptq_61", windows, losses, base_losses)
    kl = np.concatenate([window[0] for window in windows]).astype(float)
    n = kl.size
    assert (found.windows, found.tokens) == (5, n)
    assert found.kl_divergence.mean.estimate == pytest.approx(kl.mean())
    assert found.kl_divergence.standard_error == pytest.approx(kl.std() / math.sqrt(n - 1))
    for name, value in {"min": 0, "p1": 1, "p50": 50, "p99.9": 99.9, "max": 100}.items():
        assert found.kl_divergence.quantiles[name] == pytest.approx(np.percentile(kl, value))
    same = np.concatenate([window[2] for window in windows]).mean()
    assert found.top_1_agreement.mean.estimate == pytest.approx(same)
    binomial = math.sqrt(same * (1 - same) / (n - 1))
    assert found.top_1_agreement.standard_error == pytest.approx(binomial)
    change = np.concatenate(q_right) - np.concatenate(p_right)
    assert found.probability_change.mean.estimate == pytest.approx(change.mean(), rel=1e-4)
    rms = math.sqrt((change**2).mean())
    assert found.probability_change.root_mean_square == pytest.approx(rms, rel=1e-4)
    l_q, l_p = -np.log(np.concatenate(q_right)), -np.log(np.concatenate(p_right))
    ratio = found.log_perplexity_ratio
    assert ratio.mean.estimate == pytest.approx(l_q.mean() - l_p.mean(), rel=1e-4)
    covariance = np.cov(l_q, l_p)
    error = math.sqrt((covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]) / n)
    assert ratio.standard_error == pytest.approx(error, rel=1e-4)
    correlation = covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])
    assert found.log_probability_correlation == pytest.approx(correlation, rel=1e-5)
    assert found.metric("kl_divergence") == "kl_divergence/gptq_61"


def test_codes_err_by_half_a_step_and_not_to_one_side() -> None:
    base, own, _ = pair(noise=0.1)
    exact, own_logs = log_softmax(base), log_softmax(own)
    stored = encode(exact)
    assert stored.nbytes == TOKENS * (VOCABULARY + 4) * 2
    read = decode(stored)
    span = exact.max(axis=1) - exact.min(axis=1)
    assert (np.abs(read - exact).max(axis=1) <= span / 131070 * 1.01 + 1e-5).all()
    kl, coded = (token_divergence(x, own_logs)[0] for x in (exact, read))
    assert np.abs(coded - kl).max() < 5e-4
    assert coded.mean() == pytest.approx(kl.mean(), abs=2e-5)


def write(
    directory: Path, output: Path, max_bytes: int, logits: list[np.ndarray], right: np.ndarray
) -> tuple[ReferenceWriter, list[np.ndarray]]:
    writer = ReferenceWriter(directory, max_bytes)
    losses = [
        writer.keep(number, distributions(x), right.tolist())
        for number, x in enumerate(logits)
        if not writer.full
    ]
    output.mkdir()
    return writer, losses


def test_what_is_kept_is_compared_with(tmp_path: Path) -> None:
    base, own, right = pair()
    writer, (losses,) = write(tmp_path / "partial", tmp_path / "result", 10**6, [base], right)
    form = writer.finish(tmp_path / "result")
    assert (form.form, form.windows, form.tokens) == ("codes", 1, TOKENS)
    assert form.bytes == TOKENS * (VOCABULARY + 4) * 2
    assert losses == pytest.approx(-np.log(probabilities(base)[np.arange(TOKENS), right]), rel=1e-4)
    rows = Reference(tmp_path / "result", tmp_path, "cpu").compare(
        0, distributions(own), right.tolist()
    )
    expected = token_divergence(log_softmax(base), log_softmax(own))
    assert rows[1] == pytest.approx(expected[0], abs=1e-3)
    assert rows[3].tolist() == expected[2].tolist()
    assert rows[0] == pytest.approx(-np.log(probabilities(own)[np.arange(TOKENS), right]), rel=1e-4)


def test_other_vocabularies_are_not_compared(tmp_path: Path) -> None:
    base, own, right = pair()
    writer, (losses,) = write(tmp_path / "partial", tmp_path / "result", 10**6, [base], right)
    writer.finish(tmp_path / "result")
    assert losses_of(distributions(base), right.tolist()).tolist() == losses.tolist()
    reference = Reference(tmp_path / "result", tmp_path, "cpu")
    with pytest.raises(StageError, match="over 499 tokens cannot be compared with those over 500"):
        reference.compare(0, distributions(own[:, :-1]), [0] * TOKENS)


def test_the_bound_limits_the_windows(tmp_path: Path) -> None:
    base, _, right = pair()
    window_bytes = TOKENS * (VOCABULARY + 4) * 2
    writer, _ = write(
        tmp_path / "partial", tmp_path / "result", 2 * window_bytes + 1, [base] * 4, right
    )
    assert writer.full
    form = writer.finish(tmp_path / "result")
    assert (form.windows, form.bytes) == (2, 2 * window_bytes)
    assert Reference(tmp_path / "result", tmp_path, "cpu").windows == 2
    with pytest.raises(StageError, match=rf"is too small for one window.*\({window_bytes} bytes\)"):
        ReferenceWriter(tmp_path / "none", 1000).keep(0, distributions(base), right.tolist())


def test_an_attempt_after_a_kill_goes_on_with_what_is_there(tmp_path: Path) -> None:
    base, _, right = pair()
    window_bytes = TOKENS * (VOCABULARY + 4) * 2
    write(tmp_path / "partial", tmp_path / "killed", 10**6, [base, base], right)[0].finish(
        tmp_path / "killed"
    )
    second = ReferenceWriter(tmp_path / "partial", 3 * window_bytes)
    second.resume(0)
    second.resume(1)
    second.keep(2, distributions(base), right.tolist())
    second.keep(3, distributions(base), right.tolist())
    (tmp_path / "result").mkdir()
    made = second.finish(tmp_path / "result")
    assert (made.form, made.windows) == ("codes", 3)
    third = ReferenceWriter(tmp_path / "partial", 3 * window_bytes)
    for number in range(4):
        third.resume(number)
    (tmp_path / "again").mkdir()
    assert third.finish(tmp_path / "again") == made


def test_distributions_are_copied_where_the_file_system_links_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    base, _, right = pair()
    writer, _ = write(tmp_path / "partial", tmp_path / "result", 10**6, [base], right)
    writer.finish(tmp_path / "result")
    (kept,) = (tmp_path / "partial").glob("window-*.npy")
    (copy,) = (tmp_path / "result").rglob("window-*.npy")
    assert copy.read_bytes() == kept.read_bytes()
    assert copy.stat().st_ino != kept.stat().st_ino


def top(logits: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    logs = log_softmax(logits)
    rows = np.empty((len(logs), k + 1), TOP_FIELDS)
    for row, values, token in zip(rows, logs, right, strict=True):
        best = np.argsort(-values)[:k].tolist()
        row[:] = [(t, values[t]) for t in [*best, int(token)]]
    return rows


def test_top_k_is_a_lower_bound_that_nears_the_truth(tmp_path: Path) -> None:
    base, own, right = pair()
    kl, reverse, same, _ = token_divergence(log_softmax(base), log_softmax(own))
    bounds = [top_divergence(top(base, right, k), top(own, right, k)) for k in (2, 20, 400)]
    for found in bounds:
        assert (found[0] <= kl + 1e-4).all()
        assert (found[1] <= reverse + 1e-4).all()
        assert found[2].tolist() == same.tolist()
    means = [found[0].mean() for found in bounds]
    assert 0 < means[0] < means[1] < means[2]
    assert means[1] == pytest.approx(kl.mean(), rel=0.15)
    assert means[2] == pytest.approx(kl.mean(), rel=0.01)


def test_top_k_lists_are_kept_as_they_are(tmp_path: Path) -> None:
    base, own, right = pair()
    writer = ReferenceWriter(tmp_path / "partial", 10**6)
    losses = writer.keep(0, TopDistributions(top(base, right, 20)), right.tolist())
    assert losses == pytest.approx(-np.log(probabilities(base)[np.arange(TOKENS), right]), rel=1e-4)
    (tmp_path / "result").mkdir()
    assert writer.finish(tmp_path / "result").bytes == TOKENS * 21 * 8
    reference = Reference(tmp_path / "result", tmp_path, "cpu")
    assert reference.is_top
    rows = reference.compare(0, TopDistributions(top(own, right, 20)), right.tolist())
    expected = top_divergence(top(base, right, 20), top(own, right, 20))
    assert rows[1:].tolist() == expected.tolist()
