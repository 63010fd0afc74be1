"""Sweeps are unions of grids."""

from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from hydra.utils import get_class
from omegaconf import OmegaConf, open_dict

from runner.config.compose import quoted, register
from runner.config.kept_configs import KeptConfigs
from runner.config.kept_merges import KeptMerges
from runner.errors import UsageError
from runner.util.paths import conf_dir
from runner.validation.unused import Effects
from tests.unit.conftest import kept_loader

pytestmark = pytest.mark.unit


def jobs(
    grids: dict[str, dict[str, str]] | None,
    *command_line: str,
    batch: int | None = None,
    **others: list[dict[str, str]],
) -> list[list[list[str]]]:
    register()
    # Hydra imports its own sweeper anew when it looks for plugins; ours builds on that one.
    from runner.multirun.grid import GridSweeper

    loader = kept_loader(Path.cwd())
    sweeper = GridSweeper(grids=grids, **others)
    # The rest of the context starts jobs, which is not what is tested here.
    sweeper.hydra_context = HydraContext(config_loader=loader, callbacks=None)  # type: ignore[arg-type]
    overrides = OverridesParser.create(loader).parse_overrides(list(command_line))
    return sweeper.split_arguments(overrides, batch)


GRIDS = {
    "unquantized": {"method": "none"},
    "rounding": {"method": "rtn", "bits": "w8a16,w4a16"},
}


def test_the_union_of_products_in_order() -> None:
    assert jobs(GRIDS) == [
        [["method=none"], ["method=rtn", "bits=w8a16"], ["method=rtn", "bits=w4a16"]]
    ]


def test_without_grids_the_command_line_alone() -> None:
    assert jobs(None, "method=rtn,gptq", "bits=w4a16") == [
        [["method=rtn", "bits=w4a16"], ["method=gptq", "bits=w4a16"]]
    ]


def test_the_command_line_holds_in_every_grid() -> None:
    (found,) = jobs(GRIDS, "model=tiny", "group_size=g32,g64")
    assert len(found) == 6
    assert all("model=tiny" in job for job in found)
    assert ["method=none", "model=tiny", "group_size=g32"] in found


def test_the_command_line_wins_and_equal_jobs_run_once() -> None:
    (found,) = jobs(GRIDS, "bits=w3a16")
    assert found == [["method=none", "bits=w3a16"], ["method=rtn", "bits=w3a16"]]
    (found,) = jobs(GRIDS, "method=gptq,rtn", "bits=w4a16")
    assert found == [["method=gptq", "bits=w4a16"], ["method=rtn", "bits=w4a16"]]


def test_equal_jobs_of_two_grids_run_once() -> None:
    (found,) = jobs({"a": {"bits": "w4a16,w3a16"}, "b": {"bits": "w3a16,w2a16"}})
    assert found == [["bits=w4a16"], ["bits=w3a16"], ["bits=w2a16"]]


def test_the_order_in_which_grids_name_things_makes_no_other_job() -> None:
    grids = {
        "a": {"method": "rtn,gptq", "bits": "w4a16"},
        "b": {"bits": "w4a16,w3a16", "method": "rtn"},
    }
    (found,) = jobs(grids, "model=tiny")
    assert found == [
        ["method=rtn", "bits=w4a16", "model=tiny"],
        ["method=gptq", "bits=w4a16", "model=tiny"],
        ["bits=w3a16", "method=rtn", "model=tiny"],
    ]
    # What they name is chosen on the command line: nothing tells them apart.
    (found,) = jobs(grids, "method=gptq", "bits=w2a16,w8a16")
    assert found == [["method=gptq", "bits=w2a16"], ["method=gptq", "bits=w8a16"]]
    (found,) = jobs(grids, runs=[{"bits": "w4a16", "method": "gptq"}])
    assert [sorted(job) for job in found].count(["bits=w4a16", "method=gptq"]) == 1


def test_batches() -> None:
    assert [len(batch) for batch in jobs(GRIDS, batch=2)] == [2, 1]


def test_excluded_combinations_are_left_out() -> None:
    (found,) = jobs(GRIDS, exclude=[{"method": "rtn,gptq", "bits": "w4a16"}])
    assert found == [["method=none"], ["method=rtn", "bits=w8a16"]]
    (found,) = jobs(None, "method=rtn,gptq", "bits=w4a16,w3a16", exclude=[{"bits": "w3a16"}])
    assert found == [["method=rtn", "bits=w4a16"], ["method=gptq", "bits=w4a16"]]
    with pytest.raises(HydraException, match="excludes every combination"):
        jobs(GRIDS, exclude=[{"method": "none, rtn"}])


def test_single_runs_stand_beside_grids() -> None:
    (found,) = jobs({"a": {"bits": "w4a16,w3a16"}}, runs=[{"bits": "w2a16", "method": "rtn"}])
    assert found == [["bits=w4a16"], ["bits=w3a16"], ["bits=w2a16", "method=rtn"]]
    (found,) = jobs(None, "model=tiny", runs=[{"method": "rtn"}, {"method": "none"}])
    assert found == [["method=rtn", "model=tiny"], ["method=none", "model=tiny"]]


@pytest.mark.parametrize(
    "launcher",
    [
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    ],
)
def test_no_job_begins_before_all_make_sense(launcher: str) -> None:
    register()
    setup_globals()
    from runner.multirun.grid import GridSweeper

    loader = kept_loader(Path.cwd())
    sweeper = GridSweeper()
    sweeper.hydra_context = HydraContext(config_loader=loader, callbacks=None)  # type: ignore[arg-type]
    sweeper.launcher = get_class(launcher)()
    sweeper.launcher.config = loader.load_configuration("config", [], RunMode.MULTIRUN)
    good = ["model=tiny", "model.seed=${hydra:job.num}"]
    sweeper.validate_batch_is_legal([good, ["model=local", "model.path=/a"]])
    composed = loader.load_sweep_config(sweeper.launcher.config, good)
    assert composed.hydra.overrides.task == good
    assert OmegaConf.is_struct(composed)
    for wrong, message in (
        (["model=local"], "model.path has no value: add model.path="),
        (["+model.speed=3"], "there is no model.speed"),
        (["launch.on_failure=never"], "expected continue, stop or stop_after_N"),
    ):
        with pytest.raises(UsageError, match=message):
            sweeper.validate_batch_is_legal([wrong])


def test_of_several_batches_a_later_one_may_read_what_the_first_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register()
    setup_globals()
    from runner.multirun.grid import GridSweeper

    loader = kept_loader(Path.cwd())
    sweeper = GridSweeper()
    sweeper.hydra_context = HydraContext(config_loader=loader, callbacks=None)  # type: ignore[arg-type]
    sweeper.launcher = get_class("hydra._internal.core_plugins.basic_launcher.BasicLauncher")()
    sweeper.launcher.config = loader.load_configuration("config", [], RunMode.MULTIRUN)
    first = ["model=tiny", "eval.text.path=/a"]
    later = ["model=tiny", "text@eval.text=local", "eval.text.path=/a"]
    monkeypatch.setattr(GridSweeper, "jobs", [first, later])
    sweeper.validate_batch_is_legal([first])
    monkeypatch.setattr(GridSweeper, "jobs", [first])
    sweeper._effects = Effects()
    with pytest.raises(UsageError, match=r"eval\.text\.path=/a has no effect"):
        sweeper.validate_batch_is_legal([first])


def test_what_is_read_once_composes_the_same(tmp_path: Path) -> None:
    register()
    plain = ConfigLoaderImpl(config_search_path=create_config_search_path(str(conf_dir())))
    kept = ConfigLoaderImpl(config_search_path=create_config_search_path(str(conf_dir())))
    kept.repository = KeptConfigs(kept.repository)
    KeptMerges(kept)
    (tmp_path / "bits").mkdir()
    (tmp_path / "bits" / "own.yaml").write_text((conf_dir() / "bits" / "w4a16.yaml").read_text())
    alike = ["method=rtn", "bits=w8a16", "model=tiny"]
    others = [
        ["method=rtn", "bits=w8a16", "model=llama31_8b"],
        ["method=rtn", "bits=auto", "model=llama31_8b", "bits.average=3.2"],
        ["method=bnb_4bit", "engine.dtype=float32"],
        ["method=gguf", "engine=llama_cpp", "text@eval.text=bible"],
    ]
    searched = ["bits=own", f"hydra.searchpath=[{quoted(f'file://{tmp_path}')}]"]
    for job in (alike, searched, alike, *others, alike):
        texts = []
        for loader in (plain, kept):
            composed = loader.load_configuration("config", job, RunMode.RUN)
            texts.append((OmegaConf.to_yaml(composed), OmegaConf.get_type(composed.method)))
            assert OmegaConf.is_struct(composed)
            # What a job does to its configuration concerns no other.
            with open_dict(composed):
                composed.model.name = "changed"
                composed.hydra.sweeper = None
        assert texts[0] == texts[1]


@pytest.mark.parametrize("mode", [RunMode.RUN, RunMode.MULTIRUN])
def test_a_request_is_composed_once_and_as_hydra_does(
    mode: RunMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    loader = kept_loader(Path.cwd())
    own, composed = loader._load_configuration_impl, []

    def compose(**asked: Any) -> Any:
        composed.append(asked["run_mode"])
        return own(**asked)

    monkeypatch.setattr(loader, "_load_configuration_impl", compose)
    words = ["method=rtn", "model=tiny" if mode is RunMode.RUN else "model=tiny,smollm2_135m"]
    hydra = Hydra("runner", loader)
    assert hydra.get_mode("config", words) is None
    asked = [*words, f"hydra.mode={mode.name}"]
    once = hydra.compose_config("config", asked, mode)
    assert composed == [mode]
    again = loader.load_configuration("config", asked, mode)
    assert OmegaConf.to_yaml(once) == OmegaConf.to_yaml(again) and once is not again


def test_what_a_request_is_taken_for_is_composed_anew_where_it_is_none() -> None:
    register()
    loader = kept_loader(Path.cwd())
    hydra = Hydra("runner", loader)
    assert hydra.get_mode("config", ["model=tiny"]) is None
    asked = ["model=tiny", "hydra.mode=MULTIRUN"]
    assert hydra.compose_config("config", asked, RunMode.MULTIRUN).hydra.mode is RunMode.MULTIRUN
    assert hydra.get_mode("config", asked) is RunMode.MULTIRUN
    assert hydra.get_mode("config", ["bits=w4a16,w8a16"]) is None
    with pytest.raises(HydraException, match="multirun"):
        hydra.compose_config("config", ["bits=w4a16,w8a16", "hydra.mode=RUN"], RunMode.RUN)
    assert hydra.get_mode("config", ["bits=no_such"]) is None
    with pytest.raises(HydraException, match="no_such"):
        hydra.compose_config("config", ["bits=no_such", "hydra.mode=RUN"], RunMode.RUN)


def test_what_is_merged_once_refuses_the_same() -> None:
    register()
    loader = ConfigLoaderImpl(config_search_path=create_config_search_path(str(conf_dir())))
    KeptMerges(loader)
    for wrong in (["method.sym=maybe"], ["method.symm=true"], ["bits=w7a99"]):
        good = ["method=rtn", "bits=w8a16"]
        loader.load_configuration("config", good, RunMode.RUN)
        with pytest.raises(HydraException):
            loader.load_configuration("config", [*good[:1], *wrong], RunMode.RUN)
        loader.load_configuration("config", good, RunMode.RUN)


def test_runs_of_one_checkpoint_follow_each_other() -> None:
    asked = ("eval=quick,perplexity", "engine=hf,vllm", "method=rtn,gptq")
    (found,) = jobs(None, *asked)
    named = [[override.partition("=")[2] for override in job] for job in found]
    assert named == [
        [text, engine, method]
        for method in ("rtn", "gptq")
        for engine in ("hf", "vllm")
        for text in ("quick", "perplexity")
    ]


def test_calibration_texts_make_checkpoints_and_evaluation_texts_do_not() -> None:
    (found,) = jobs(None, "text@eval.text=a,b", "text@calibration.text=a,b")
    calibrated = [job[1] for job in found]
    assert calibrated == sorted(calibrated)


def test_lists_are_choices_and_null_is_one() -> None:
    grids = {"a": {"method.backend": ["autoawq", None], "calibration.samples": [8, 16]}}
    (found,) = jobs(grids)
    assert found == [
        ["method.backend=autoawq", "calibration.samples=8"],
        ["method.backend=autoawq", "calibration.samples=16"],
        ["method.backend=null", "calibration.samples=8"],
        ["method.backend=null", "calibration.samples=16"],
    ]
    assert jobs({"a": {"engine.threads": None}}) == [[["engine.threads=null"]]]
    (found,) = jobs({"a": {"method.sym": [True, False]}})
    assert found == [["method.sym=True"], ["method.sym=False"]]
    (found,) = jobs({"a": {"method.sym": [True, False]}}, exclude=[{"method.sym": False}])
    assert found == [["method.sym=True"]]
    assert jobs({"a": {"method.sym": False, "engine.threads": 2}}) == [
        [["method.sym=False", "engine.threads=2"]]
    ]


def test_lists_within_the_list_are_lists() -> None:
    (found,) = jobs({"a": {"bench.batch_sizes": [[1, 4], [8]]}})
    assert found == [["bench.batch_sizes=[1,4]"], ["bench.batch_sizes=[8]"]]
    (typed,) = jobs(None, "bench.batch_sizes=[1,4],[8]")
    assert typed == found
    (found,) = jobs({"a": {"method.keep": [[], ["re:.*a,b$", "x"]]}})
    assert found == [["method.keep=[]"], ["method.keep=['re:.*a,b$',x]"]]
    (sources,) = jobs({"a": {"calibration.sources": [[{"text": "bible", "weight": 0.5}]]}})
    assert sources == [["calibration.sources=[{text:bible,weight:0.5}]"]]


def test_a_text_in_a_list_is_one_choice() -> None:
    (found,) = jobs({"a": {"model.path": ["/my models/a,b", "c"]}})
    assert found == [["model.path='/my models/a,b'"], ["model.path=c"]]
    (found,) = jobs({"a": {"sensitivity.text.name": ["null", "true"]}})
    assert found == [["sensitivity.text.name='null'"], ["sensitivity.text.name='true'"]]


def test_a_single_run_has_values_and_an_exclusion_has_choices() -> None:
    runs = [{"eval.protocols": ["gptq", "lm_eval"], "engine.threads": None}]
    (found,) = jobs(None, runs=runs)
    assert found == [["eval.protocols=[gptq,lm_eval]", "engine.threads=null"]]
    grids = {"a": {"bits": ["w4a16", "w3a16"], "bench.batch_sizes": [[1], [1, 4]]}}
    exclude = [{"bits": ["w3a16", "w2a16"], "bench.batch_sizes": [[1, 4]]}]
    (found,) = jobs(grids, exclude=exclude)
    assert len(found) == 3 and ["bits=w3a16", "bench.batch_sizes=[1,4]"] not in found
    (found,) = jobs({"a": {"engine.threads": [None, 1]}}, exclude=[{"engine.threads": None}])
    assert found == [["engine.threads=1"]]


def test_params_are_choices_too() -> None:
    from runner.multirun.grid import GridSweeper

    register()
    sweeper = GridSweeper(params={"bits": ["w4a16", "w3a16"], "engine.threads": None, "x": "a,b"})
    assert sweeper._parse_config() == ["bits=w4a16,w3a16", "engine.threads=null", "x=a,b"]


def test_an_empty_list_is_no_grid() -> None:
    with pytest.raises(UsageError, match=r"bits=\[\] in a grid of the sweep has no choice"):
        jobs({"a": {"bits": []}})


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("hydra.sweeper.grids={a:{bits:w4a16}}", None),
        ("hydra.sweeper.runs=[{bits:w4a16}]", None),
        ("hydra.sweeper.params={bits:w4a16}", None),
        ("hydra/sweeper=basic", None),
        ("hydra.sweeper.grids=x", "grids=x must be a section"),
        ("hydra.sweeper.grids={a:x}", "grids.a=x must be a section"),
        ("hydra.sweeper.runs=[x]", r"runs\[0\]=x must be a section"),
        ("hydra.sweeper.exclude={bits:w4a16}", "must be a list of sections"),
        ("hydra.sweeper.max_batch_size=0", "max_batch_size=0 must be 1 or more"),
    ],
)
def test_settings_may_be_given_on_the_command_line(word: str, said: str | None) -> None:
    register()
    from runner.multirun.grid import GridSweeper

    loader = kept_loader(Path.cwd())
    node = loader.load_configuration("config", [word], RunMode.MULTIRUN).hydra.sweeper
    settings: dict[str, Any] = OmegaConf.to_container(node)  # type: ignore[assignment]
    assert settings.pop("_target_") == "hydra_plugins.quant_runner.GridSweeper"
    if said is None:
        GridSweeper(**settings)
        return
    with pytest.raises(UsageError, match=said):
        GridSweeper(**settings)
