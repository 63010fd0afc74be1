"""What `runner` alone does: three rows, on the engine where fewer bits pay and nothing is built."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from runner.cli.flags import read_flags
from runner.cli.quickstart import QUICKSTART
from runner.cli.stopping import going_on
from runner.config.compose import register
from runner.planning.hardware.detect import detect
from runner.reporting.row import Row
from runner.reporting.scale import small_model_note
from runner.util.gpus import Gpu
from tests.unit.conftest import kept_loader
from tests.unit.judging import Compose, illegal_ones, judge

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ([], True),
        (["sweep=mine", "store.root=/tmp/x", "decide.goal=size"], True),
        (["tracker=none", "environment.llama_cpp.python=/p"], True),
        (["eval=quick"], False),
        (["text@eval.text=bible"], False),
        (["dry_run=true", "hydra.run.dir=here"], True),
        (["model=tiny"], False),
        (["method.sym=false"], False),
        (["+bits=w4a16"], False),
        (["text@calibration.text=bible"], False),
        (["stages=[eval]"], False),
        (["report"], False),
        (["-m"], False),
        (["-cn", "first_look"], False),
        (["--cfg", "job"], False),
        (["hydra/sweeper=basic"], False),
        (["~eval"], False),
    ],
)
def test_without_a_word_on_what_to_run_it_is_the_quickstart(
    words: list[str], chosen: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["runner", *words])
    assert (read_flags().config_name == QUICKSTART) is chosen


def test_a_configuration_of_ones_own_and_a_launchers_run_are_what_they_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["runner"])
    monkeypatch.setenv("QUANT_RUNNER_RUN", "3")
    assert read_flags().config_name is None
    monkeypatch.delenv("QUANT_RUNNER_RUN")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("defaults: [schema]\n")
    assert read_flags().config_name is None


def quickstart(*words: str) -> list[list[str]]:
    register()
    setup_globals()
    from runner.multirun.grid import GridSweeper

    loader = kept_loader(Path.cwd())
    master = loader.load_configuration(QUICKSTART, list(words), RunMode.MULTIRUN)
    settings = OmegaConf.to_container(master.hydra.sweeper)
    assert isinstance(settings, dict)
    settings.pop("_target_")
    sweeper = GridSweeper(**settings)  # type: ignore[arg-type]
    sweeper.hydra_context = HydraContext(config_loader=loader, callbacks=None)  # type: ignore[arg-type]
    sweeper.config = master
    overrides = OverridesParser.create(loader).parse_overrides(list(words))
    (found,) = sweeper.split_arguments(overrides, None)
    return found


def test_an_engine_is_taken_where_its_environment_is_there_and_left_alone_where_not(
    tmp_path: Path,
) -> None:
    nothing = f"store.environments={tmp_path}"
    by_hf = quickstart(nothing)
    assert [job[0] for job in by_hf] == ["method=none", "method=rtn", "method=gptq"]
    assert not any("engine=llama_cpp" in job for job in by_hf)
    ready = f"environment.llama_cpp.python={sys.executable}"
    assert all("engine=llama_cpp" in job for job in quickstart(nothing, ready))
    # What the command line says of an engine or a method holds.
    assert quickstart(nothing, ready, "engine=hf") == [[*job, ready, "engine=hf"] for job in by_hf]


def test_every_recipe_of_the_quickstart_is_legal_here_and_on_a_gpu(composed: Compose) -> None:
    register()
    loader = kept_loader(Path.cwd())
    sweeper = loader.load_configuration(QUICKSTART, [], RunMode.RUN).hydra.sweeper
    here = detect()
    card = Gpu("NVIDIA H100 80GB HBM3", 85 * 10**9, "9.0", "GPU-0", 0)
    machines = {"on_a_gpu": replace(here, memory_bytes=2 * 10**12, gpus=(card,)), "on_a_cpu": here}
    for place, found in sweeper.where_ready.items():
        assert list(found) == ["unquantized", "eight_bits", "four_bits"]
        for grid in found.values():
            job = [f"{key}={value}" for key, value in grid.items()]
            assert not illegal_ones(judge(composed, machines[place], job)), job


def test_a_small_model_is_told_how_large_ones_fare() -> None:
    small = Row("gptq-w4a16-g64", "small", "hf", "ok", None, None)
    small.bits_per_weight, small.bits_per_parameter = 4.3, 4.4
    small.checkpoint_bytes = 74_000_000
    (told,) = small_model_note([small])
    assert "135 million" in told and "96 to 99% for Llama-3.1-8B" in told
    assert not small_model_note([replace(small, checkpoint_bytes=7_400_000_000)])
    assert not small_model_note([replace(small, bits_per_weight=8.5)])
    assert not small_model_note([replace(small, checkpoint_bytes=None)])


def test_the_command_that_goes_on_is_one_to_type() -> None:
    assert going_on([], "2026_1") == "runner sweep=2026_1"
    assert going_on(["-m", "method=rtn,gptq"], "x") == "runner -m method=rtn,gptq sweep=x"
    typed = going_on(["model=local", "model.path=/my models/a", "sweep=mine"], "mine")
    assert typed == "runner model=local 'model.path=/my models/a' sweep=mine"
