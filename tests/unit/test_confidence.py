"""Divergence by the unquantized model's confidence, against plain numpy."""

import copy
import math

import numpy as np
import pytest

from runner.engines.distributions import TOP_FIELDS, log_softmax
from runner.evaluation.metrics.confidence import EDGES, by_confidence
from runner.evaluation.metrics.divergence import (
    FIELDS,
    summarise_divergence,
    token_divergence,
    top_divergence,
)
from runner.pipeline.stages import find_stage
from runner.reporting.markdown import markdown
from runner.reporting.page.sections import confidence as section
from runner.reporting.page.subject import Subject
from runner.reporting.rows import rows_of
from runner.util.serialise import to_json
from tests.unit.records import content_of, whole, with_quality

pytestmark = pytest.mark.unit

CONFIDENCE = FIELDS.index("reference_top_probability")


def windows_of(count: int = 4, tokens: int = 50) -> list[np.ndarray]:
    """Rows of ``token_divergence`` of distributions from flat to sharp."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        base = generator.normal(0, 1, (tokens, 40)) * np.linspace(0.5, 6, tokens)[:, None]
        own = base + generator.normal(0, 0.4, base.shape)
        found.append(token_divergence(*(log_softmax(x.astype(np.float32)) for x in (base, own))))
    return found


def test_buckets_against_numpy_on_the_tokens() -> None:
    windows = windows_of()
    found = by_confidence(*([w[row] for w in windows] for row in (CONFIDENCE, 0, 2)))
    every = np.concatenate(windows, axis=1).astype(float)
    which = np.digitize(every[CONFIDENCE], EDGES[1:-1])
    assert [bucket.tokens for bucket in found] == np.bincount(which, minlength=5).tolist()
    assert min(bucket.tokens for bucket in found) > 0
    for number, bucket in enumerate(found):
        inside = every[:, which == number]
        assert bucket.kl_divergence is not None
        assert bucket.kl_divergence.estimate == pytest.approx(inside[0].mean())
        assert bucket.kl_divergence.low < bucket.kl_divergence.estimate < bucket.kl_divergence.high
        assert bucket.flips == int((inside[2] == 0).sum())
        assert bucket.flipped_share == pytest.approx(bucket.flips / inside.shape[1])
    whole_mean = sum(b.kl_divergence.estimate * b.tokens for b in found if b.kl_divergence)
    assert whole_mean / 200 == pytest.approx(every[0].mean())


def test_a_bucket_holds_its_lower_edge_and_may_be_empty() -> None:
    confidence = np.array([0.25, 0.95, 1.0, 1.0000001], np.float32)
    kl, same = np.array([1, 2, 3, 4], np.float32), np.array([0, 1, 1, 0], np.float32)
    found = by_confidence([confidence], [kl], [same])
    assert [(bucket.tokens, bucket.flips) for bucket in found] == [
        (0, 0), (1, 1), (0, 0), (0, 0), (3, 1)
    ]  # fmt: skip
    assert found[0].kl_divergence is found[0].flipped_share is None
    assert found[4].label == "95 to 100%"


def test_the_confidence_is_the_references_and_top_k_lists_tell_it_too() -> None:
    base = np.array([[2.0, 0.0, -1.0, -3.0]], np.float32)
    p, q = log_softmax(base.copy()), log_softmax(-base)
    expected = math.exp(2) / np.exp(base).sum()
    assert token_divergence(p, q)[CONFIDENCE][0] == pytest.approx(expected)
    lists = [np.empty((1, 3), TOP_FIELDS) for _ in range(2)]
    for one, logs in zip(lists, (p[0], q[0]), strict=True):
        one[0] = [(int(t), logs[t]) for t in (*np.argsort(-logs)[:2], 1)]
    assert top_divergence(*lists)[CONFIDENCE][0] == pytest.approx(expected)


def test_the_buckets_are_told_on_the_page_in_markdown_and_to_trackers() -> None:
    windows = windows_of(3, 30)
    losses = [np.full(30, 3.0, np.float32) + n for n in range(3)]
    divergence = summarise_divergence("gptq_512", windows, losses, [x - 0.1 for x in losses])
    run = copy.deepcopy(with_quality(1, 0.1, [0.1, 0.2, 0.1]))
    content = content_of(run, "eval")
    content["divergence"] = to_json(divergence)
    rows = rows_of([run])
    told = section.gather(Subject("demo", [run], rows))
    assert told is not None and told["names"][-1] == "95 to 100%"
    (line,) = told["lines"]
    assert rows[line.row].recipe == line.recipe
    sure = divergence.confidence[-1]
    assert sure.kl_divergence is not None and sure.flipped_share is not None
    cell = f"{sure.kl_divergence.estimate:.4f} ({sure.flipped_share:.2%})"
    assert cell in markdown(rows, [run], [])
    stage = find_stage("eval")
    cells = stage.tables(stage.read(whole("eval", content)))["eval/confidence"]
    assert [row[3] for row in cells[1]] == [b.tokens for b in divergence.confidence if b.tokens]
    without = with_quality(1, 0.1, [0.1, 0.2, 0.1])
    assert section.gather(Subject("demo", [without], rows_of([without]))) is None
