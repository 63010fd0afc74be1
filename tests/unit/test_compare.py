"""Compare: which runs stand opposite each other, what differs, and what is noise."""

import copy
import dataclasses
import math
from pathlib import Path

import pytest

from runner.config.schema.root import Compare, Config, StageName
from runner.errors import UsageError
from runner.reporting.compare import compare
from runner.reporting.compare.figures import Figure, figures
from runner.reporting.compare.find import Side, find_side
from runner.reporting.compare.pairs import pair_up
from runner.reporting.compare.show import show
from runner.store.records import RunRecord, Status, write_record
from tests.unit.records import CONFIG, apart, content_of, recipe, record

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


def drifted(run: RunRecord, factor: float) -> RunRecord:
    """A run during which the machine was slower by a factor, for every model alike."""
    run = copy.deepcopy(run)
    for subject in ("baseline", "recipe"):
        for batch in content_of(run, "bench", subject)["batches"]:
            for name, change in (
                ("decode_tokens_per_second", 1 / factor),
                ("time_to_first_token_seconds", factor),
            ):
                batch[name]["mean"] *= change
                batch[name]["samples"] = [x * change for x in batch[name]["samples"]]
    return run


def test_a_machine_that_drifted_makes_nothing_better_or_worse(
    capsys: pytest.CaptureFixture[str],
) -> None:
    a = apart(recipe(0, "a", 21.0, 60.0, 90_000_000))
    slow = drifted(a, 1.38)
    found = by_name(a, slow)
    for name, drift in (
        ("decode_tokens_per_second/batch_1", 1 / 1.38),
        ("time_to_first_token_seconds/batch_4", 1.38),
    ):
        figure = found[name]
        assert figure.verdict == "within noise"
        assert figure.drift == pytest.approx(drift)
        assert figure.ratio is not None
        assert figure.ratio.estimate == pytest.approx(drift)
        # The drift over the interval of repetitions, which spread by 2% on both sides.
        assert figure.ratio.high / figure.ratio.low == pytest.approx(1.38**2 * 1.1, rel=0.02)
    # What goes beyond the drift still counts, in both directions.
    fast = apart(recipe(1, "b", 21.0, 150.0, 90_000_000))
    assert by_name(slow, fast)["decode_tokens_per_second/batch_1"].verdict == "better"
    assert by_name(fast, slow)["decode_tokens_per_second/batch_1"].verdict == "worse"
    assert found["perplexity/gptq_512"].drift is None
    show(*(sides := (Side("a", [a], True), Side("b", [slow], True))), pair_up(*sides))
    assert "the unquantized model changed by up to 38%" in capsys.readouterr().out


def test_only_what_the_machine_did_is_drift(capsys: pytest.CaptureFixture[str]) -> None:
    a = apart(recipe(0, "a", 21.0, 60.0, 90_000_000))
    slow = drifted(apart(recipe(1, "a", 21.0, 60.0, 90_000_000)), 1.38)
    newer = copy.deepcopy(slow)
    newer.stages[1].versions = {"torch": "2.14.0"}
    elsewhere = dataclasses.replace(slow, host={"cpu_name": "Other CPU", "gpus": []})
    threads = dataclasses.replace(slow, config=CONFIG | {"engine": {"threads": 1}})
    alone = copy.deepcopy(slow)
    del alone.stages[1]
    for other in (newer, elsewhere, threads, alone):
        figure = by_name(a, other)["decode_tokens_per_second/batch_1"]
        assert (figure.verdict, figure.drift, figure.ratio) == ("unknown", None, None)
    # One measurement of the unquantized model for both, as in a sweep.
    shared = apart(recipe(1, "b", 21.0, 90.0, 90_000_000))
    figure = by_name(a, shared)["decode_tokens_per_second/batch_1"]
    assert (figure.verdict, figure.drift) == ("unknown", None)
    show(*(sides := (Side("a", [a], True), Side("b", [shared], True))), pair_up(*sides))
    assert "otherwise drift cannot be separated" in capsys.readouterr().out


def test_what_took_turns_is_compared_by_its_ratio_to_the_unquantized_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    a = recipe(0, "a", 21.0, 60.0, 90_000_000)
    # The second minute was slower for all; each took turns within its own.
    b = drifted(recipe(1, "b", 21.0, 90.0, 90_000_000), 3.0)
    found = by_name(a, b)
    for size in (1, 4):
        figure = found[f"decode_tokens_per_second/batch_{size}"]
        assert (figure.verdict, figure.relative, figure.drift) == ("better", True, None)
        assert figure.ratio is not None
        assert figure.ratio.estimate == pytest.approx(1.5)
        # Both intervals are in it.
        (told,) = (t for t in a.stages[-1].result["in_turns"] if t["batch_size"] == size)
        own = told["decode"]["ratio"]["high"] / told["decode"]["ratio"]["low"]
        both = figure.ratio.high / figure.ratio.low
        assert math.log(both) == pytest.approx(math.sqrt(2) * math.log(own))
    assert found["time_to_first_token_seconds/batch_1"].verdict == "within noise"
    show(*(sides := (Side("a", [a], True), Side("b", [b], True))), pair_up(*sides))
    assert "each run alternated with the unquantized model" in capsys.readouterr().out
    elsewhere = dataclasses.replace(b, host={"cpu_name": "Other CPU", "gpus": []})
    assert by_name(a, elsewhere)["decode_tokens_per_second/batch_1"].verdict == "unknown"


def test_what_was_measured_once_is_unknown() -> None:
    a, b = (recipe(n, "a", 21.0 + n, 60.0, 90_000_000) for n in (0, 1))
    for entry in (a, b):
        found = content_of(entry, "eval")
        assert found is not None
        found["perplexity"]["window_losses"] = [3.0]
    assert by_name(a, b)["perplexity/gptq_512"].verdict == "unknown"


def test_other_texts_and_protocols_are_not_paired() -> None:
    a = recipe(0, "a", 21.0, 60.0, 90_000_000)
    other_text = CONFIG | {"eval": {"text": {"name": "bible"}}}
    b = recipe(1, "b", 25.0, 60.0, 90_000_000, config=other_text)
    assert by_name(a, b)["perplexity/gptq_512"].ratio is None
    found = content_of(b, "eval")
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
        ("third", "no sweep matches third; there are: first, second"),
        ("first/00", "2 match 00…; choose one of: 000-gptq"),
        ("first/7", "no run of sweep first matches 7; there are: 000-gptq"),
        ("/", "the name of a sweep is empty; there are first, second"),
        ("planned", "sweep planned has no records"),
    ],
)
def test_a_wrong_name_says_what_there_is(runs: Path, wanted: str, complaint: str) -> None:
    (runs / "planned").mkdir()
    with pytest.raises(UsageError, match=complaint.replace("second", "planned, second")):
        find_side(runs, wanted)


def test_a_run_is_found_by_what_follows_its_number(runs: Path) -> None:
    (run,) = find_side(runs, "second/awq").records
    assert run.run == "000-awq-w4a16-g64"


@pytest.mark.parametrize("sides", [("first", None), (None, "first")])
def test_both_sides_must_be_named(sides: tuple[str | None, str | None], runs: Path) -> None:
    asked = Compare(*sides)
    with pytest.raises(UsageError, match=r"compare needs two sides: compare\.a=SWEEP"):
        compare(runs, Config(stages=[StageName.compare], compare=asked), None)


def test_only_what_was_measured_alike_is_compared() -> None:
    a, b = (recipe(n, "a", 21.0, 60.0, 90_000_000) for n in (0, 1))

    def speeds() -> set[str]:
        return {name for name in by_name(a, b) if "batch_" in name}

    del content_of(b, "bench")["batches"][0]
    assert speeds() == {
        "decode_tokens_per_second/batch_4", "time_to_first_token_seconds/batch_4",
    }  # fmt: skip
    content_of(b, "bench")["prompt_tokens"] = 128
    assert speeds() == set()


def test_a_single_repetition_tells_no_speed_from_noise() -> None:
    a = apart(recipe(0, "a", 21.0, 60.0, 90_000_000))
    b = drifted(a, 1.25)
    name = "decode_tokens_per_second/batch_1"
    assert by_name(a, b)[name].ratio is not None
    for batch in content_of(b, "bench")["batches"]:
        batch["decode_tokens_per_second"]["samples"] = [48.0]
    figure = by_name(a, b)[name]
    assert (figure.a, figure.b, figure.ratio, figure.verdict) == (60.0, 48.0, None, "unknown")


def test_runs_that_failed_are_told_beside_the_figures_of_the_others(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for sweep, status in (("first", Status.failed), ("second", Status.ok)):
        write_record(runs, record(2, "none-bf16", [], sweep=sweep, status=status))
    sides = find_side(runs, "first"), find_side(runs, "second")
    show(*sides, pair_up(*sides))
    printed = capsys.readouterr().out
    assert "none-bf16 on hf: failed in a, ok in b" in printed
    (line,) = (one for one in printed.splitlines() if "none-bf16" in one)
    assert "in b" in line, "it has no part of the table"
