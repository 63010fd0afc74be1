"""The warm parent of workers imports what its jobs import again and again."""

import sys
from pathlib import Path

import pytest

from runner.pipeline.worker.habits import Habits

pytestmark = pytest.mark.unit


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that can be imported and has not been."""
    name = f"library_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text("here = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_what_two_jobs_have_imported_is_imported_for_the_next(library: str) -> None:
    habits = Habits([library], on_gpu=False)
    habits.learn([library])
    assert library not in sys.modules
    habits.learn([library])
    assert sys.modules.pop(library).here


def test_a_module_that_the_parent_cannot_import_is_left_to_the_jobs() -> None:
    habits = Habits(["not_there_at_all"], on_gpu=False)
    for _ in range(3):
        habits.learn(["not_there_at_all"])


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_job_tells_what_it_imported_that_the_parent_may(library: str, on_gpu: bool) -> None:
    habits = Habits([f"{library[:5]}*"], on_gpu)
    before = [name for name in sys.modules if name != "runner.pipeline.worker.habits"]
    __import__(library)
    told = habits.since(before)
    del sys.modules[library]
    own = ["runner.pipeline.worker.habits"]
    assert told == (own if on_gpu else [*own, library]), "a library may begin to use the GPU"
