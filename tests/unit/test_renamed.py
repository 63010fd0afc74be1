"""Fields that were renamed: wherever the old name is written, it means the new one."""

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from runner.api import compose_config
from runner.config import renamed
from runner.config.compose import register
from runner.config.fields import kinds_at
from runner.config.renamed import RENAMED, names_of_keys, present_axes, present_overrides
from runner.config.schema.serving import Serving
from runner.config.schema.sweepers import SearchSettings
from runner.errors import UsageError
from runner.multirun.search.state import STATE_FILE, State
from runner.pipeline.stages.serving import load_determinants
from runner.reporting.claims.select import matching
from runner.store.files import sha256_of_json
from runner.store.records import read_record, write_record
from tests.unit.records import record

pytestmark = pytest.mark.unit

OLD, NEW = "plan.largest_batch", "plan.max_batch_size"


@pytest.fixture(autouse=True)
def nobody_was_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is the first to have an old name."""
    monkeypatch.setenv(renamed._WARNED, "")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with configuration of the user's own."""
    for folder in ("conf/plan", "sweeps"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_names_fields_that_are_there_and_ends() -> None:
    for one in RENAMED:
        if one.section != "hydra.launcher":  # launchers' settings are what their options say
            assert kinds_at(f"{one.section}.{one.new}".replace("*", "default")), one
        assert not kinds_at(f"{one.section}.{one.old}".replace("*", "default")), one
        assert Version(one.until) > Version(importlib.metadata.version("quant-runner")), (
            f"{one.section}.{one.old} stops working in this version: drop it from the table"
        )


@pytest.mark.parametrize("sign", ["", "+", "++"])
@pytest.mark.parametrize("value", ["7", "'7'"])
def test_an_override_by_an_old_name_sets_the_new_one_with_one_warning(
    sign: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{sign}{OLD}={value}"]
    if sign == "+":
        assert present_overrides(words) == [f"+{NEW}={value}"]  # there is one: nothing to add
    else:
        assert compose_config(words).plan.max_batch_size == 7
    _ = present_overrides(words)
    (told,) = capsys.readouterr().err.splitlines()
    assert f"{OLD} was renamed to {NEW}" in told


def test_every_form_of_an_override_is_known() -> None:
    for word, expected in (
        (f"~{OLD}", f"~{NEW}"),
        (f"{OLD}=1,2", f"{NEW}=1,2"),
        ("plan={batch: 2,largest_batch:3}", "plan={concurrency: 2,max_batch_size:3}"),
        (f"plan.rows=${{{OLD}}}", f"plan.rows=${{{NEW}}}"),
        ("serving.objective.request_latency_seconds=1", "serving.slo.request_latency_seconds=1"),
        (
            "hydra={sweeper:{at_once:2},job:{at_once:1}}",
            "hydra={sweeper:{max_concurrent:2},job:{at_once:1}}",
        ),
        (
            "+environment.legacy={name: 'a {shims: b', shims:[x]}",
            "+environment.legacy={name: 'a {shims: b', patches:[x]}",
        ),
        (
            'environment={legacy:{shims :[x],variables:{shims:"shims: b"}}}',
            'environment={legacy:{patches :[x],variables:{shims:"shims: b"}}}',
        ),
        (
            "plan={rows:3,devices:[{batch:1}],batch:2}",
            "plan={rows:3,devices:[{batch:1}],concurrency:2}",
        ),
        ("compare={a: x, mix_arithmetic: true}", "compare={a: x, allow_different_dtypes: true}"),
        ("environment.legacy.shims=[]", "environment.legacy.patches=[]"),
        ("hydra.launcher.at_once=2", "hydra.launcher.max_concurrent=2"),
        ("plan.batches=2", "plan.batches=2"),
        ("model.path=plan.batch", "model.path=plan.batch"),
        ("text@eval.text=bible", "text@eval.text=bible"),
    ):
        assert present_overrides([word]) == [expected]


def test_both_names_at_once_are_refused(own: Path) -> None:
    with pytest.raises(UsageError, match="same field"):
        compose_config([f"{OLD}=1", f"+{NEW}=2"])
    with pytest.raises(UsageError, match=r"grid x: plan\.batch and plan\.concurrency"):
        present_axes({"plan.batch": 1, "++plan.concurrency": 2}, "grid x")
    path = own / "conf/plan/mine.yaml"
    path.write_text("rows: 3\nbatch: 1\nconcurrency: 2\n")
    with pytest.raises(UsageError, match=r"mine\.yaml, line 2: plan\.batch and"):
        compose_config(["plan=mine"])


def test_two_old_names_of_one_field_are_refused(own: Path) -> None:
    """A field may have been renamed twice."""
    old, older = "plan.batch_size", "plan.batch"
    for words in (
        [f"{older}=1", f"+{old}=2"],
        [f"{old}=2", f"{older}=1"],
        ["plan={batch: 1, rows: 3, batch_size: 2}"],
        ["plan={batch: 1, concurrency: 2}"],
    ):
        with pytest.raises(UsageError, match=r"same field \(renamed\); remove plan\.batch"):
            present_overrides(words)
    with pytest.raises(UsageError, match=r"grid x: plan\.batch_size and plan\.batch are"):
        present_axes({"plan.batch_size": 2, "+plan.batch": 1}, "grid x")
    path = own / "conf/plan/mine.yaml"
    path.write_text("rows: 3\nbatch: 1\nbatch_size: 2\n")
    with pytest.raises(UsageError, match=r"mine\.yaml, line 2: plan\.batch and plan\.batch_size"):
        compose_config(["plan=mine"])
    twice = ["plan={inner: [{batch: 1}, {batch: 2}]}", f"{older}=1", f"{older}=2"]
    assert present_overrides(twice)[1:] == ["plan.concurrency=1", "plan.concurrency=2"]


def test_files_of_the_users_own_may_have_old_names(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "conf/plan/mine.yaml").write_text("rows: 3\nlargest_batch: 9\nbatch: ${.rows}\n")
    (own / "sweeps/mine.yaml").write_text(
        "defaults: [config, _self_]\nplan: {batch: 5, rows: '${plan.largest_batch}'}\n"
    )
    plan = compose_config(["plan=mine"]).plan
    assert (plan.max_batch_size, plan.concurrency) == (9, 3)
    plan = compose_config([f"{NEW}=8"], "mine").plan
    assert (plan.concurrency, plan.rows) == (5, 8)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2, "each name once"
    assert f"mine.yaml, line 2: {OLD} was renamed to {NEW}" in told[0]


def test_a_launcher_of_the_users_own_may_have_an_old_name(own: Path) -> None:
    from hydra import compose, initialize_config_dir

    from runner.util.paths import conf_dir

    place = own / "conf/hydra/launcher/mine.yaml"
    place.parent.mkdir(parents=True)
    place.write_text("_target_: hydra_plugins.quant_runner.SubmititLauncher\nat_once: 3\n")
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="runner"):
        words = ["hydra/launcher=mine"]
        composed = compose("config", words, return_hydra_config=True)
    assert composed.hydra.launcher.max_concurrent == 3


def test_axes_of_sweeps_and_searches_may_have_old_names(tmp_path: Path) -> None:
    register()
    from hydra_plugins.quant_runner import GridSweeper, SearchSweeper

    axes = {OLD: "1,2", "bits": "w4a16"}
    sweeper = GridSweeper(params=axes, grids={"a": axes}, runs=[axes], exclude=[axes])
    present = {NEW: "1,2", "bits": "w4a16"}
    assert sweeper.params == sweeper.grids["a"] == sweeper.runs[0] == sweeper.exclude[0] == present
    settings = {k: v for k, v in vars(SearchSettings(space=axes)).items() if k[0] != "_"}
    assert SearchSweeper(**settings).space == present
    # A search that was begun under the old name goes on under the new one.
    State({OLD: ["1", "2"]}, ["perplexity"]).write(tmp_path)
    assert (tmp_path / STATE_FILE).is_file()
    assert State.read(tmp_path, {NEW: ["1", "2"]}, ["perplexity"]).axes == {NEW: ["1", "2"]}


def test_an_old_record_reads_as_a_new_one_and_claims_find_it_by_both_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = replace(
        record(0, "gptq", []), config={"plan": {"largest_batch": 9}}, overrides=[f"{OLD}=9"]
    )
    read = read_record(write_record(tmp_path, old))
    assert read is not None
    assert (read.config, read.overrides) == ({"plan": {"max_batch_size": 9}}, [f"{NEW}=9"])
    assert capsys.readouterr().err == "", "nobody can change it"
    assert matching([read], f"{OLD}=9") == matching([read], f"{NEW}=9") == [read]
    assert matching([read], f"{OLD}=8") == []


def test_keys_of_the_store_are_made_of_the_names_of_old() -> None:
    kept = load_determinants(Serving())
    key = "3932f433c8ccb1f0abe0fba0b599587ddb14caff4f92249fdd78777498c67ec3"
    assert sha256_of_json(kept) == key, "results of earlier versions would not be found"
    assert names_of_keys("plan", {"concurrency": 2}) == {"batch": 2}, "the oldest of its names"
