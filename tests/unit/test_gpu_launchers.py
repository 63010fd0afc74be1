"""What launchers make of GPUs: runs at a time, what is asked of Ray and Slurm, refusals."""

import contextlib
import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from runner.errors import UsageError
from runner.multirun.launchers.allotment import refuse_sharing
from runner.multirun.launchers.ray import RayLauncher
from runner.multirun.launchers.submitit import SubmititLauncher
from runner.planning.hardware.detect import Machine
from runner.util.gpus import VISIBLE
from tests.stub_driver import H100, cards
from tests.unit.conftest import StubDriver
from tests.unit.test_allotment import TIMED, job

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, 1),
        ({"gpus_per_run": 1}, 8),
        ({"gpus_per_run": 3}, 2),
        ({"gpus_per_run": 1, "max_concurrent": 3}, 3),
        ({"max_concurrent": 12}, 12),
    ],
)
def test_as_many_runs_start_as_gpus_allow(
    settings: dict[str, int], limit: int, stub_driver: StubDriver
) -> None:
    stub_driver(cards(*[H100] * 9), CUDA_VISIBLE_DEVICES="1,2,3,4,5,6,7,8")
    launcher = SubmititLauncher("local", 1.0, **settings)
    assert launcher._limit(launcher._allotment()) == limit
    assert {gpu.index for gpu in launcher._allotment().gpus} == {*range(1, 9)}


@pytest.mark.parametrize(
    ("cluster", "settings", "said"),
    [
        ("local", {"gpus_per_run": -1}, "gpus_per_run=-1 must be a whole number, 0 or more"),
        ("local", {"gpus_per_run": 0.5}, "gpus_per_run=0.5 must be a whole number"),
        ("local", {"max_concurrent": 0}, "max_concurrent=0 must be a whole number, 1 or more"),
        ("local", {"gpus_per_node": 2}, "gpus_per_node has no effect here: use gpus_per_run"),
        ("slurm", {"gpus_per_run": 1}, "gpus_per_run has no effect under Slurm"),
    ],
)
def test_settings_without_an_effect_are_refused(
    cluster: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        SubmititLauncher(cluster, 1.0, **settings)._require_settings()


def test_slurm_is_asked_for_the_gpus_that_runs_use() -> None:
    jobs = [job("a"), job("b", two=True)]
    with pytest.raises(UsageError, match=r"b computes on 2 GPUs, but hydra.*gpus_per_node=1"):
        SubmititLauncher("slurm", 1.0, gpus_per_node=1).look_at(jobs)
    for given in (2, None):
        SubmititLauncher("slurm", 1.0, gpus_per_node=given).look_at(jobs)


@pytest.mark.parametrize(
    ("at_once", "stages", "device", "refused"),
    [
        (2, TIMED, "auto", True),
        (-1, TIMED, "cuda", True),
        (1, TIMED, "auto", False),
        (2, ("quantize", "eval"), "auto", False),
        (2, TIMED, "cpu", False),
    ],
)
def test_joblibs_runs_time_no_gpu_that_they_share(
    at_once: int, stages: Sequence[str], device: str, refused: bool, gpu: Machine, cpu: Machine
) -> None:  # fmt: skip
    launcher = SimpleNamespace(joblib={"n_jobs": at_once})
    config = job("a", device, stages=stages).config
    says = f"n_jobs={at_once}: bench would .*submitit_local hydra.launcher.gpus_per_run=1"
    with pytest.raises(UsageError, match=says) if refused else contextlib.nullcontext():
        refuse_sharing(launcher, [None, config], gpu)
    if device == "auto":
        refuse_sharing(launcher, [config], cpu)


def ray_launcher(**settings: Any) -> RayLauncher:
    always = {"poll_seconds": 0.1, "address": None, "num_cpus": 4, "memory_gb": None}
    return RayLauncher(**{**always, "resources": None, **settings})


def test_a_ray_of_ones_own_has_the_visible_gpus(
    stub_driver: StubDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_driver(cards(H100, H100, H100), CUDA_VISIBLE_DEVICES="GPU-2aaa,1")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    found: list[Any] = []

    def init(**settings: Any) -> None:
        found.append([os.environ[VISIBLE], settings["num_gpus"], settings["num_cpus"]])

    for jobs, least in (([job("a")], 1), ([job("a")], None), ([job("a", "cpu")], None)):
        ray_launcher(gpus_per_run=least)._connect(SimpleNamespace(init=init), jobs)
    assert found == [["GPU-2aaa,GPU-1aaa", 2, 8], ["GPU-2aaa,GPU-1aaa", 2, 8], ["GPU-2aaa,1", 2, 4]]
    assert os.environ[VISIBLE] == "GPU-2aaa,1", "ours is as it was"


@pytest.mark.parametrize("name", ["gpus_per_run", "num_gpus"])
def test_ray_is_asked_for_the_gpus_that_runs_use(name: str) -> None:
    def asked(much: float | None, one: Any, there: bool = True) -> float:
        return ray_launcher(**{name: much})._gpus_of(one, there)

    assert [asked(much, job("a")) for much in (None, 1, 2, 0.5, 0)] == [1, 1, 2, 0.5, 0]
    assert [asked(much, job("a", two=True)) for much in (None, 1, 3, 0.5)] == [2, 2, 3, 2]
    assert [asked(much, job("a", "cpu")) for much in (None, 1)] == [0, 0]
    assert [asked(None, job("a", device), there=False) for device in ("auto", "cuda")] == [0, 1]
    assert asked(1, job("a"), there=False) == 1, "it waits, and does not turn to the CPU"


@pytest.mark.parametrize(
    ("settings", "one", "said"),
    [
        ({"gpus_per_run": 1}, job("a", "cuda:1"), "a names engine.device=cuda:1, but Ray chooses"),
        ({"num_gpus": 0.5}, job("a", stages=TIMED), "num_gpus=0.5: bench would measure"),
        ({"num_gpus": 4}, job("a"), r"num_gpus=4\): this machine has 3 GPUs"),
        ({"address": "h:1", "gpus_per_run": 0.5}, job("a", stages=TIMED), "gives each its own"),
    ],
)
def test_what_ray_cannot_grant_is_refused_before_anything_starts(
    settings: dict[str, Any], one: Any, said: str, stub_driver: StubDriver
) -> None:
    stub_driver(cards(H100, H100, H100))
    with pytest.raises(UsageError, match=said):
        ray_launcher(**settings).look_at([one])
    ray_launcher(num_gpus=0.5).look_at([job("a", "cpu", stages=TIMED), job("b")])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_gpus": 1, "gpus_per_run": 1}, "num_gpus is gpus_per_run by another name"),
        ({"num_gpus": 1.5}, "num_gpus=1.5 must be a whole number, or a part of one GPU"),
        ({"gpus_per_run": -1}, "gpus_per_run=-1 must be"),
    ],
)
def test_ray_has_one_meaning_of_a_number_of_gpus(settings: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ray_launcher(**settings)._require_settings()
