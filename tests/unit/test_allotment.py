"""A node's GPUs among a sweep's runs, on a stub of the driver: each is one run's at a time."""

import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.cli.app import execute
from runner.config.schema.engine import Engine
from runner.engines.vllm.settings import Vllm
from runner.errors import UsageError
from runner.multirun.launchers.allotment import Allotment
from runner.multirun.launchers.slots import LocalTask, Slots, cpu_shares
from runner.multirun.launchers.task import RUN_VARIABLE
from runner.util.gpus import VISIBLE, Gpu
from tests.unit.conftest import Compose, raising

pytestmark = pytest.mark.unit

GPUS = tuple(Gpu("NVIDIA H100 80GB HBM3", 80, "9.0", f"GPU-{n}", n) for n in (0, 2, 5, 7))
SLICES = tuple(Gpu("NVIDIA A100 MIG 3g.20gb", 20, "8.0", f"MIG-{n}") for n in "ab")
TIMED = ("quantize", "bench")


def job(
    run: str, device: str = "auto", *, two: bool = False, stages: Sequence[str] = ("eval",)
) -> Any:
    """A run as a launcher is handed it, of which two GPUs share the model or one has it."""
    engine = Vllm(device=device, tensor_parallel_size=2) if two else Engine(device=device)
    config = SimpleNamespace(engine=engine, stages=[*stages])
    return SimpleNamespace(run=run, config=config, task=Probe(run))


@dataclass
class Probe:
    """Says which GPUs its process finds."""

    run: str
    told: Path = field(default_factory=Path)
    beside: str | None = None
    """A run that goes on at the same time: neither ends before both have begun."""

    def __call__(self) -> int:
        begun = time.monotonic()
        (self.told / f"{self.run}.begun").touch()
        while self.beside is not None and not (self.told / f"{self.beside}.begun").exists():
            time.sleep(0.005)
        said = [os.environ.get(VISIBLE), begun, time.monotonic(), [*os.sched_getaffinity(0)]]
        (self.told / self.run).write_text(json.dumps(said))
        if self.run.startswith("killed"):
            os.kill(os.getpid(), 9)
        return 0


class Processes:
    """Submits as submitit does, without a second that its interpreter takes to start."""

    def submit(self, task: LocalTask) -> Any:
        process = multiprocessing.get_context("fork").Process(target=task, daemon=True)
        process.start()
        return SimpleNamespace(done=lambda: not process.is_alive())


def carried_out(
    jobs: list[Any], folder: Path, limit: int, allotment: Allotment
) -> dict[str, tuple[str, float, float, list[int]]]:
    for one in jobs:
        one.task.told = folder
    slots = Slots(Processes(), jobs, limit, allotment)
    deadline = time.monotonic() + 60
    while set(slots.look().values()) != {"FAILED"}:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return {one.run: tuple(json.loads((folder / one.run).read_text())) for one in jobs}


def test_a_gpu_is_one_runs_at_a_time_however_a_run_ends(tmp_path: Path) -> None:
    jobs = [job("killed"), job("b", two=True), job("c"), job("on cpu", "cpu"), job("d", "cuda")]
    for one, other in ((0, 3), (2, 4)):
        jobs[one].task.beside, jobs[other].task.beside = jobs[other].run, jobs[one].run
    # Else it would not end: the one on the CPU waits for no GPU, and two have one each.
    told = carried_out(jobs, tmp_path, 3, Allotment(GPUS[1:3], None))
    assert told["on cpu"][0] == ""
    assert told["b"][0] == "GPU-2,GPU-5"
    on_gpus = [told[name] for name in ("killed", "b", "c", "d")]
    assert {gpus for gpus, *_ in on_gpus} <= {"GPU-2", "GPU-5", "GPU-2,GPU-5"}
    for number, (gpus, begun, ended, _) in enumerate(on_gpus):
        for others, other_begun, other_ended, _ in on_gpus[number + 1 :]:
            if {*gpus.split(",")} & {*others.split(",")}:
                assert ended <= other_begun or other_ended <= begun
    assert told["killed"][2] <= told["b"][1] <= told["c"][1], "and none overtakes one that waits"


def test_a_job_ends_with_the_process_that_is_watched(tmp_path: Path) -> None:
    """Else its GPUs would be given away while it computes on them."""
    fork = multiprocessing.get_context("fork").Process
    told = tmp_path / "pid"

    def run() -> int:
        told.with_suffix(".new").write_text(str(os.getpid()))
        told.with_suffix(".new").rename(told)
        time.sleep(600)
        return 0

    def controller() -> None:
        fork(target=LocalTask(run)).start()  # type: ignore[arg-type]
        time.sleep(600)

    watched = fork(target=controller)
    watched.start()
    deadline = time.monotonic() + 60
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    watched.kill()
    watched.join()
    status = Path("/proc") / told.read_text() / "status"
    while status.exists() and "zombie" not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_ends_with_the_process_of_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.cli.app.die_with_parent", raising(KeyError("bound")))
    monkeypatch.setenv(RUN_VARIABLE, "3")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with pytest.raises(KeyError, match="bound"):
        execute()


def test_runs_get_the_gpus_that_they_use_or_more() -> None:
    def given(least: int | None, engine: Engine, gpus: Sequence[Gpu] = GPUS) -> str:
        allotment, one = Allotment(gpus, least), job("r")
        one.config.engine = engine
        own = allotment.take(one, frozenset())
        assert own is not None
        return ",".join(gpu.uuid.removeprefix("GPU-") for gpu in allotment.visible_to(one, own))

    two = Vllm(tensor_parallel_size=2)
    assert [given(least, Engine()) for least in (None, 1, 2, 0)] == ["0", "0", "0,2", ""]
    assert [given(least, two) for least in (None, 1, 3)] == ["0,2", "0,2", "0,2,5"]
    assert given(1, Engine(device="cpu")) == ""
    assert given(None, Engine(), ()) == "", "where there is none, a run computes on the CPU"
    assert given(1, Engine(), [*SLICES, *GPUS]) == "MIG-a"
    assert given(1, two, [*SLICES, *GPUS]) == "0,2", "slices work alone"
    assert given(1, Engine(device="cuda:2")) == "0,2,5,7", "its number counts among all of them"


def test_a_run_gets_as_many_gpus_as_its_engine_takes_for_its_model(composed: Compose) -> None:
    """The transformers engine takes as few as hold the model."""
    cards = [Gpu("NVIDIA H100 80GB HBM3", 85_520_809_984, "9.0", f"GPU-{n}", n) for n in range(4)]
    allotment = Allotment(cards, 1)
    runs = [job("large"), job("named", "cuda:2"), job("small"), job("large on cpu", "cpu")]
    for one, model in zip(runs, ("llama31_70b", "llama31_70b", "tiny", "tiny"), strict=True):
        device = one.config.engine.device
        one.config = composed(f"model={model}", "method=none", "stages=[eval]",
                              "eval.dtype=bfloat16", f"engine.device={device}")  # fmt: skip
    assert [allotment.wanted(one) for one in runs] == [2, 2, 1, 0]
    assert allotment.take(runs[0], frozenset()) == (*cards[:2],)
    assert allotment.take(runs[1], frozenset()) == (*cards[2:],)
    assert allotment.take(runs[2], frozenset()) is None


def test_a_run_that_names_a_gpu_gets_that_one() -> None:
    allotment = Allotment(GPUS, None)
    free: frozenset[Gpu] = frozenset()
    assert allotment.take(job("a", "cuda:0"), free) == GPUS[:1]
    assert allotment.take(job("b", "cuda:0"), free) is None
    assert allotment.take(job("c", "cuda:2", two=True), free) == GPUS[2:]
    assert allotment.take(job("d"), frozenset(GPUS[1:2])) is None, "that one is awaited"
    allotment.release("a")
    assert allotment.take(job("b", "cuda:0"), free) == GPUS[:1]


@pytest.mark.parametrize(
    ("least", "gpus", "jobs", "said"),
    [
        (1, (), [job("a")], "gpus_per_run=1, but no GPU answers on this machine"),
        (0, GPUS, [job("a", "cuda")], "gpus_per_run=0 leaves a no GPU for engine.device=cuda"),
        (5, GPUS, [job("a")], r"more GPUs than there are \(hydra.launcher.gpus_per_run=5\): .* 4"),
        (None, GPUS[:1], [job("a"), job("b", two=True)],
         r"b asks for more .* \(engine.tensor_parallel_size=2\): this machine has 1 GPU"),
        (None, GPUS, [job("a", "cuda:4")], r"\(engine.device=cuda:4\): this machine has 4 GPUs"),
        (None, GPUS, [job("a", "cuda:3", two=True)], "engine.device=cuda:3, engine.tensor_para"),
        (None, SLICES, [job("a", two=True)], "2 GPUs, 2 of them slices, which work alone"),
        (None, (), [job("a", "cuda")], r"\(engine.device=cuda\): this machine has 0 GPUs"),
    ],
)  # fmt: skip
def test_what_no_gpu_can_meet_is_refused_before_anything_starts(
    least: int | None, gpus: Sequence[Gpu], jobs: list[Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        Allotment(gpus, least).look_at(jobs)


UNLIKE = (*GPUS[:1], Gpu("NVIDIA L4", 24, "8.9", "GPU-9", 9))


@pytest.mark.parametrize(
    ("least", "gpus", "jobs", "said"),
    [
        (None, GPUS, [job("a"), job("b", "cpu")], None),
        (1, GPUS, [job("a", "cpu"), job("b", "cuda:3")], None),
        (1, GPUS, [job("a", "cpu")], "gpus_per_run=1 has no effect: none of these runs"),
        (1, UNLIKE, [job("a", stages=TIMED)], "the GPUs differ (NVIDIA H100 80GB HBM3, NVIDIA L4)"),
        (None, UNLIKE, [job("a", "cuda:1", stages=TIMED), job("b")], None),
    ],
)
def test_what_can_be_met_is_told_where_it_may_surprise(
    least: int | None, gpus: Sequence[Gpu], jobs: list[Any], said: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    Allotment(gpus, least).look_at(jobs)
    told = capsys.readouterr().err
    assert told == "" if said is None else said in told


@pytest.mark.parametrize(
    ("cpus", "number", "shares"),
    [
        # Both threads of a core are in one part.
        ({0, 1, 2, 3}, 2, [(0, 2), (1, 3)]),
        ({0, 1, 2, 3}, 3, [(0,), (2,), (1,)]),
        ({0, 1, 2, 3}, 1, []),
        ({0, 1}, 3, []),
    ],
)
def test_runs_at_a_time_share_the_processors_out(
    cpus: set[int], number: int, shares: list[tuple[int, ...]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        path = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        path.parent.mkdir(parents=True)
        path.write_text(siblings)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cpus)
    assert cpu_shares(number, tmp_path) == shares


def test_a_gpus_runs_have_the_processors_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs there are, so that all of a sweep are timed alike."""
    monkeypatch.setattr(
        "runner.multirun.launchers.slots.cpu_shares", lambda number: [(n,) for n in range(number)]
    )
    started: list[LocalTask] = []
    going_on = SimpleNamespace(done=lambda: False)
    executor = SimpleNamespace(submit=lambda task: started.append(task) or going_on)
    own_number = job("b")
    own_number.config.engine.threads = 3
    jobs = [job("a", "cuda:3"), own_number, job("c"), job("d"), job("e"), job("f", "cpu")]
    states = Slots(executor, jobs, 5, Allotment(GPUS, 1)).look()
    assert [states[run] for run in "abcdef"] == [*["RUNNING"] * 4, "PENDING", "RUNNING"]
    visible = [task.variables[VISIBLE] for task in started]
    assert visible == ["GPU-0,GPU-2,GPU-5,GPU-7", "GPU-0", "GPU-2", "GPU-5", ""]
    assert [task.cpus for task in started] == [(3,), (), (1,), (2,), ()]


def test_a_job_of_submitits_finds_the_gpus_that_it_is_given(tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit")
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="local")
    # Of its own accord it hides all.
    done = executor.submit(
        LocalTask(Probe("r", tmp_path), {VISIBLE: "MIG-a"}, (min(os.sched_getaffinity(0)),))
    )  # type: ignore[arg-type]
    assert done.result() == 0
    gpus, _, _, cpus = json.loads((tmp_path / "r").read_text())
    assert (gpus, cpus) == ("MIG-a", [min(os.sched_getaffinity(0))])
