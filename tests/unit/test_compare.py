"""Compare: which runs stand opposite each other, what differs, and what is noise."""

from pathlib import Path

import pytest

from runner.answer.compare.figures import Figure, figures
from runner.answer.compare.find import find_side
from runner.answer.compare.pairs import pair_up
from runner.answer.compare.show import show
from runner.errors import UsageError
from runner.store.records import RunRecord, write_record
from tests.unit.records import CONFIG, recipe

pytestmark = pytest.mark.unit


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two sweeps: the second runs faster, loses ``rtn`` and gains ``awq``."""
    changed = CONFIG | {"method": {"name": "gptq", "backend": "gptqmodel"}}
    for entry in (
        recipe(0, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000, sweep="first"),
        recipe(1, "rtn-w4a16-g64", 23.0, 60.0, 90_000_000, sweep="first"),
        recipe(0, "awq-w4a16-g64", 20.5, 60.0, 90_000_000, sweep="second"),
        recipe(1, "gptq-w4a16-g64", 21.0, 90.0, 90_000_000, sweep="second", config=changed),
    ):
        write_record(tmp_path, entry)
    return tmp_path


def by_name(a: RunRecord, b: RunRecord) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(a, b)}


def test_sweeps_are_paired_by_recipe(runs: Path) -> None:
    pairs = pair_up(find_side(runs, "first"), find_side(runs, "second"))
    assert [(pair.a, pair.b) for pair in pairs] == [
        ("000-gptq-w4a16-g64", "001-gptq-w4a16-g64"),
        ("001-rtn-w4a16-g64", None),
        (None, "000-awq-w4a16-g64"),
    ]
    (difference,) = pairs[0].differences
    assert (difference.name, difference.a, difference.b) == (
        "method.backend", "llm_compressor", "gptqmodel",
    )  # fmt: skip


def test_two_runs_are_compared_whatever_they_are(runs: Path) -> None:
    (pair,) = pair_up(find_side(runs, "first/000"), find_side(runs, "second/000-awq"))
    assert pair.label == "gptq-w4a16-g64 on hf → awq-w4a16-g64 on hf"
    assert pair.figures


def test_what_exceeds_noise_is_called_so() -> None:
    a = recipe(0, "a", 21.0, 60.0, 90_000_000)
    found = by_name(a, recipe(1, "b", 25.0, 90.0, 80_000_000))
    assert found["decode_tokens_per_second/batch_1"].verdict == "better"
    ratio = found["decode_tokens_per_second/batch_1"].ratio
    assert ratio is not None
    assert ratio.low < 1.5 < ratio.high
    assert found["perplexity/gptq_512"].verdict == "worse"
    assert found["checkpoint_bytes"].verdict == "better"
    assert found["bits_per_weight"].verdict == "equal"
    # The repetitions of both spread by 2%.
    assert by_name(a, recipe(1, "b", 21.0, 60.5, 90_000_000))[
        "decode_tokens_per_second/batch_4"
    ].verdict == "within noise"  # fmt: skip


def test_what_was_measured_once_is_unknown() -> None:
    a, b = (recipe(n, "a", 21.0 + n, 60.0, 90_000_000) for n in (0, 1))
    for entry in (a, b):
        found = entry.stage("eval")
        assert found is not None
        found["perplexity"]["window_losses"] = [3.0]
    assert by_name(a, b)["perplexity/gptq_512"].verdict == "unknown"


def test_other_texts_and_protocols_are_not_paired() -> None:
    a = recipe(0, "a", 21.0, 60.0, 90_000_000)
    other_text = CONFIG | {"eval": {"text": {"name": "bible"}}}
    b = recipe(1, "b", 25.0, 60.0, 90_000_000, config=other_text)
    assert by_name(a, b)["perplexity/gptq_512"].ratio is None
    found = b.stage("eval")
    assert found is not None
    found["perplexity"]["protocol"] = "gptq_2048"
    assert not [name for name in by_name(a, b) if name.startswith("perplexity")]


def test_it_is_shown(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = find_side(runs, "first"), find_side(runs, "second")
    show(*sides, pair_up(*sides))
    printed = capsys.readouterr().out
    assert "method.backend: llm_compressor → gptqmodel" in printed
    assert "only in b: awq-w4a16-g64 on hf" in printed
    assert "decode tokens per second/batch_1" in printed
    assert "1.500 [" in printed


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ("third", "there is no sweep third; there are: first, second"),
        ("first/00", "2 are called 00…; choose one of: 000-gptq"),
        ("first/7", "there is no run of sweep first 7; there are: 000-gptq"),
    ],
)
def test_a_wrong_name_says_what_there_is(runs: Path, wanted: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        find_side(runs, wanted)
