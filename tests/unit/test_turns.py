"""Repetitions in turns, and the one rule by which a speed is told from the unquantized model's."""

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from scipy import stats

from runner.config.schema.bench import Bench, Interleave
from runner.config.schema.engine import Engine
from runner.engines.base import GenerationTiming, LoadedModel
from runner.engines.instruments import turns as engine_turns
from runner.engines.instruments.energy import Energy, EnergyMeter, total
from runner.engines.instruments.memory import free_memory_bytes
from runner.engines.instruments.turns import Stopwatch, loaded_bytes, no_room_for
from runner.engines.loading import LoadRequest
from runner.evaluation.metrics.noise import compare, compare_between
from runner.multirun.launchers.estimate import Experience
from runner.multirun.search.objectives import measured, objectives_of
from runner.pipeline.stages.base import StageContext
from runner.pipeline.stages.bench import STAGE as BENCH
from runner.pipeline.stages.bench import BenchRequest
from runner.pipeline.stages.bench import measure as bench_measure
from runner.planning.hardware.detect import Machine
from runner.reporting.rows import Row, rows_of
from runner.reporting.speed import shown_slower, shown_speed
from runner.reporting.timing import FIRST_TOKEN, Protocol, against_unquantized
from runner.store.records import BASELINE_AGAIN
from tests.unit.judging import Compose, judge
from tests.unit.records import apart, bench, content_of, recipe, stage, whole
from tests.unit.test_hardware import write
from tests.unit.test_inputs import load_request, written

pytestmark = pytest.mark.unit


class Model:
    """Says when it was asked."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def generate(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> GenerationTiming:
        self.log.append(self.name)
        return GenerationTiming(0.1, [0.01] * (new_tokens - 1))


def test_each_begins_as_often_as_the_other(tmp_path: Path) -> None:
    log: list[str] = []
    ticks: list[str] = []
    one, other = (cast(LoadedModel, Model(name, log)) for name in "AB")
    watch = Stopwatch(Bench(repetitions=4), EnergyMeter("cpu", tmp_path), ticks.append)
    found = watch.in_turns(one, other, 2)
    assert "".join(log) == "ABBAABBA"
    assert [len(repetitions.timings) for repetitions in found] == [4, 4]
    assert len(ticks) == len(log)
    assert found[0].whole_energy is None, "nothing meters it"
    watch.warm_up(one, 2, least=3)
    assert "".join(log[8:]) == "AAA"


def test_energy_of_turns_is_the_subjects_own() -> None:
    parts = [Energy(3.0, {"package-0": 1.0, "gpu-0": 2.0})] * 2
    assert total(parts) == Energy(6.0, {"package-0": 2.0, "gpu-0": 4.0})
    assert total([*parts, None]) is None
    assert total([]) is None


def float_model(folder: Path, elements: int) -> LoadRequest:
    header = {"w": {"dtype": "BF16", "shape": [elements], "data_offsets": [0, 2 * elements]}}
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + bytes(2 * elements)
    (folder / "model.safetensors").write_bytes(content)
    return LoadRequest(
        folder, "float", Engine(name="hf"), "cpu", "float32", trust_remote_code=False
    )


def test_both_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = float_model(tmp_path, 1000)
    assert loaded_bytes(request) == 4000, "bfloat16 in the file, float32 once loaded"
    monkeypatch.setattr(engine_turns, "free_memory_bytes", lambda _: 5500)
    assert no_room_for(request, 500) is None
    assert "it needs about" in (no_room_for(request, 501) or "")
    monkeypatch.setattr(engine_turns, "free_memory_bytes", lambda _: None)
    assert no_room_for(request, 10**12) is None, "nobody says what there is"


def test_what_is_free_is_the_least_of_system_and_group(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": "MemTotal: 100 kB\nMemAvailable: 50 kB\n"})
    assert free_memory_bytes("cpu", tmp_path) == 51200
    write(tmp_path, {"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/memory.current": "40000",
                     "sys/fs/cgroup/a/memory.max": "60000",
                     "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 5000\n"})  # fmt: skip
    assert free_memory_bytes("cpu", tmp_path) == 25000


def test_between_two_looks_the_spread_has_one_degree_of_freedom() -> None:
    found = compare_between([2.0, 2.0], [1.0, 1.0], [1.1, 1.1])
    assert found.ratio.estimate == pytest.approx(2 / math.sqrt(1.1))
    spread = np.std(np.log([1.0, 1.1]), ddof=1) * math.sqrt(1.5)
    half = stats.t.ppf(0.975, 1) * spread
    assert found.ratio.high / found.ratio.estimate == pytest.approx(math.exp(half))
    assert found.within_noise
    # Where the two agree, repetitions are what is left.
    steady = compare_between([2.0, 2.1], [1.0, 1.0], [1.0, 1.0])
    assert steady.ratio.high == pytest.approx(compare([2.0, 2.1], [1.0] * 4).ratio.high)
    assert not steady.within_noise


def test_separate_draws_of_one_thing_are_told_apart_as_rarely_as_promised() -> None:
    generator = np.random.default_rng(3)
    wrong = repetitions_only = 0
    for _ in range(2000):
        before, own, after = (
            np.exp(generator.normal(0, 0.2) + generator.normal(0, 0.02, 3)).tolist()
            for _ in range(3)
        )
        wrong += not compare_between(own, before, after).within_noise
        repetitions_only += not compare(own, before).within_noise
    assert wrong / 2000 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
    assert repetitions_only / 2000 > 0.5


def test_every_batch_size_and_figure_goes_by_one_rule() -> None:
    made = recipe(0, "a", 21.0, 60.0, 1)
    own, baseline = made.result(BENCH), made.result(BENCH, "baseline")
    assert own is not None
    for size in (1, 4):
        told = against_unquantized(own, baseline, None, size)
        assert told is not None
        assert (told.how, told.comparison.within_noise) == (Protocol.in_turns, False)
        assert told.comparison.ratio.estimate == pytest.approx(1.5)
    latency = against_unquantized(own, baseline, None, 1, FIRST_TOKEN)
    assert latency is not None and latency.comparison.within_noise
    old = apart(made).result(BENCH)
    assert old is not None
    told = against_unquantized(old, baseline, None, 4)
    assert told is not None
    assert (told.how, told.comparison.within_noise) == (Protocol.apart, True)
    assert told.comparison.ratio.estimate == pytest.approx(1.5)
    again = against_unquantized(old, baseline, BENCH.read(whole("bench", bench(40.0, 1))), 4)
    assert again is not None
    assert (again.how, again.comparison.within_noise) == (Protocol.again, False)
    moved = against_unquantized(old, baseline, BENCH.read(whole("bench", bench(50.0, 1))), 4)
    assert moved is not None and moved.comparison.within_noise
    assert against_unquantized(old, None, None, 4) is None


def test_rows_say_how_speeds_were_compared() -> None:
    made = recipe(0, "a", 21.0, 60.0, 1)
    baseline, row = rows_of([made])
    assert (baseline.decode_ratio, baseline.decode_compared) == (1.0, None)
    assert (row.decode_compared, row.decode_within_noise) == ("in turns", False)
    assert row.decode_ratio_low is not None and row.decode_ratio_high is not None
    assert row.decode_ratio_low < 1.5 < row.decode_ratio_high
    old = apart(made)
    row = rows_of([old])[-1]
    assert (row.decode_compared, row.decode_within_noise) == ("separately", True)
    assert (row.decode_ratio_low, row.decode_ratio_high) == (None, None)
    old.stages.append(stage("bench", BASELINE_AGAIN, bench(40.0, 1)))
    row = rows_of([old])[-1]
    assert (row.decode_compared, row.decode_within_noise) == ("measured again", False)


def test_a_search_goes_by_what_was_shown() -> None:
    names = objectives_of(["decode_tokens_per_second", "time_to_first_token_seconds"])
    made = recipe(0, "a", 21.0, 60.0, 1)
    assert measured(made, names) == pytest.approx([60.0, 0.2])
    # The recipe's own repetitions fell into a slow minute, and so did the model's beside them.
    slow: dict[str, Any] = content_of(made, "bench") or {}
    slow["batches"][0]["decode_tokens_per_second"]["mean"] = 20.0
    assert measured(made, names) == pytest.approx([60.0, 0.2])
    assert measured(apart(made), names) == pytest.approx([40.0, 0.2])


def row(name: str, ratio: float | None, half: float = 0.05, engine: str = "hf") -> Row:
    found = Row(name, "m", engine, "ok", None, name)
    found.is_baseline = ratio is None
    found.decode_tokens_per_second = 100.0 * (ratio or 1.0)
    if ratio is not None:
        found.decode_ratio = ratio
        low, high = ratio * math.exp(-half), ratio * math.exp(half)
        found.decode_ratio_low, found.decode_ratio_high = low, high
        found.decode_within_noise = low <= 1 <= high
    return found


def test_slower_is_what_was_shown_to_be() -> None:
    dense, fast, faster, much = row("u", None), row("a", 1.3), row("b", 1.37), row("c", 1.5)
    assert shown_slower(dense, fast) and not shown_slower(fast, dense)
    assert not shown_slower(fast, faster), "5% apart, each known within 5%"
    assert shown_slower(fast, much)
    assert shown_slower(row("x", 1.3, engine="vllm"), much) is None
    speed = shown_speed([dense, fast, faster, much])
    assert speed(much) == pytest.approx(150.0)
    assert speed(faster) == speed(fast) == pytest.approx(137.0), "neither star is luck"
    assert speed(row("n", 1.02)) == 100.0
    slow, slower = row("d", 0.8), row("e", 0.78)
    speed = shown_speed([dense, fast, slow, slower])
    assert speed(slow) == speed(slower) == pytest.approx(80.0)


@pytest.mark.parametrize(("interleave", "refused"), [("always", True), ("auto", False)])
def test_turns_that_are_insisted_on_need_room_for_both(
    interleave: str, refused: bool, composed: Compose, cpu: Machine
) -> None:
    tight = Machine(**{**vars(cpu), "memory_bytes": 16_000_000_000})
    asked = ["model=opt_6_7b", "method=rtn", "group_size=g128", f"bench.interleave={interleave}"]
    found = [str(verdict) for verdict in judge(composed, tight, asked)]
    assert (
        any("at once, 17 GB at least, but this machine has 16 GB" in verdict for verdict in found)
        == refused
    ), found


@pytest.mark.parametrize(
    ("overrides", "models"),
    [([], 2), (["bench.interleave=never"], 1), (["engine=vllm"], 1), (["method=none"], 1),
     (["bench.baseline=false"], 1), (["bench.baseline=false", "bench.interleave=always"], 2)],
)  # fmt: skip
def test_an_estimate_has_room_for_what_takes_turns(
    overrides: list[str], models: int, composed: Compose, cpu: Machine
) -> None:
    def told(*given: str) -> float:
        return Experience([]).estimate("bench", composed(*given), cpu, 10**9).memory_bytes

    alone = told(*overrides, "bench.interleave=never")
    assert (told(*overrides) - alone) / 4e9 == pytest.approx(models - 1)


def test_a_checkpoint_is_timed_alone_where_no_other_fits_beside(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "nothing").mkdir()
    load = Bench(
        batch_sizes=[1, 2], prompt_tokens=4, new_tokens=3, warmups=1, repetitions=2,
        interleave=Interleave.auto,
    )  # fmt: skip
    subject = load_request(tmp_path)
    request = BenchRequest(
        subject, load, [], None, "fp32", replace(subject, checkpoint=tmp_path / "nothing")
    )
    context = StageContext(tmp_path, tmp_path, tmp_path, 1, lambda *_: None, lambda load: load())
    result = bench_measure.measure(request, context)
    assert (result.not_in_turns or "").startswith("the unquantized model could not be loaded")
    assert [one.batch_size for one in result.batches] == [1, 2] and not result.in_turns
    assert len(result.batches[0].inter_token_latency_seconds.samples) == 2 * 2, "of 3 tokens"
