"""Options in ``./conf`` and ``--config-dir``: one look-up, and the user's come first."""

from pathlib import Path

import pytest
import yaml

from runner.api import compose_config
from runner.cli.help import help_text
from runner.config.options import CONFIG_DIR, note_config_dir, option_files
from runner.config.text_by_name import resolve_text
from runner.environments.choose import choose
from runner.errors import UsageError
from runner.planning.devices import device_names, devices_of, read_device
from runner.util.paths import conf_dir

pytestmark = pytest.mark.unit


@pytest.fixture(params=[[], ["--config-dir", "settings"], ["-cd=settings"]], ids=" ".join)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The working directory's ``conf``, or the folder that the command line names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CONFIG_DIR, "")
    folder = tmp_path / ("settings" if request.param else "conf")
    folder.mkdir()
    assert note_config_dir(["plan", *request.param, "-m"]) == ["plan", "-m"]
    return folder


def changed(own: Path, option: str, **fields: object) -> None:
    """A copy of an option of ours with other values."""
    source = conf_dir() / f"{option}.yaml"
    content = yaml.safe_load(source.read_text("utf-8"))
    header = [line for line in source.read_text("utf-8").splitlines() if line.startswith("# @")]
    target = own / f"{option}.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    body = yaml.safe_dump({**content, **fields}, sort_keys=False, allow_unicode=True)
    target.write_text("\n".join([*header, body]), "utf-8")


def test_of_every_group_the_users_option_wins(own: Path) -> None:
    changed(own, "model/tiny", name="mine")
    changed(own, "calibration/openwebtext", seed=77)
    changed(own, "engine/hf", threads=3)
    changed(own, "method/rtn", ignore=["mine"])
    changed(own, "bench/quick", repetitions=77)
    changed(own, "eval/quick", windows=77)
    changed(own, "text/bible", documents=77)
    changed(own, "plan/default", rows=77)
    changed(own, "tracker/none", project="mine")
    changed(own, "environment/legacy", python_version="mine")
    config = compose_config(
        [
            "model=tiny", "method=rtn", "bench=quick", "eval=quick", "calibration=openwebtext",
            "engine=hf", "text@eval.text=bible", "plan=default", "tracker=none",
        ]
    )  # fmt: skip
    assert config.model.name == config.tracker.project == "mine"
    assert config.calibration.seed == config.bench.repetitions == config.plan.rows == 77
    assert config.eval.windows == config.eval.text.documents == 77
    assert resolve_text("bible").documents == 77, "in a mix as alone"
    assert config.engine.threads == 3
    assert config.method.ignore == ["mine"]
    provided = config.environment["legacy"].provides[0]
    assert choose(config.environment, provided, "cpu").python_version == "mine"


def test_a_device_of_the_users_is_the_same_to_hydra_and_to_plans(own: Path) -> None:
    changed(own, "hardware/h100_sxm", memory_gigabytes=1234)
    composed = compose_config(["hardware=h100_sxm"]).hardware
    assert read_device("h100_sxm") == composed
    assert devices_of(["h100_sxm"], compose_config([]).hardware) == [composed]
    assert composed.memory_gigabytes == 1234


def test_a_device_may_be_made_from_another(own: Path) -> None:
    (own / "hardware").mkdir()
    (own / "hardware" / "mine.yaml").write_text(
        "defaults: [h100_sxm, _self_]\nname: mine\nprice: {dollars_per_hour: 1.25}\n"
    )
    assert "defaults"[2:] not in help_text("hardware"), "only a comment describes"
    composed = compose_config(["hardware=mine"]).hardware
    assert read_device("mine") == composed
    assert composed.price.dollars_per_hour == 1.25
    assert composed.memory_gigabytes == read_device("h100_sxm").memory_gigabytes


def test_a_defaults_list_may_refer_to_what_was_chosen(own: Path) -> None:
    changed(own, "hardware/h100_sxm")
    for model, gigabytes in (("tiny", 12), ("small", 34)):
        (own / "memory_of").mkdir(exist_ok=True)
        (own / f"memory_of/{model}.yaml").write_text(f"memory_gigabytes: {gigabytes}\n")
    (own / "hardware/mine.yaml").write_text(
        "defaults: [h100_sxm, _self_, {/memory_of@_here_: '${model}'}]\nname: mine\n"
    )
    composed = compose_config(["model=tiny", "hardware=mine"]).hardware
    assert (composed.name, composed.memory_gigabytes) == ("mine", 12)


def test_a_device_may_not_lead_back_to_itself(own: Path) -> None:
    (own / "hardware").mkdir()
    (own / "hardware" / "mine.yaml").write_text("defaults: [mine, _self_]\nname: mine\n")
    with pytest.raises(UsageError, match="lead back to this file"):
        read_device("mine")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("defaults: [h100_sxn]\nname: mine", "no hardware=h100_sxn; did you mean h100_sxm?"),
        ("defaults: [/bits: w4a16]\nname: mine", "from another group, which takes hardware=mine"),
        ("name: mine", "mine.yaml: kind has no value"),
        ("defaults: [h100_sxm]\nmemory_gigabytes: -1", "mine.yaml: memory_gigabytes=-1.0 is"),
        ("name: mine\nmemory_gigabytes: lots", "mine.yaml: Value 'lots' of type 'str'"),
    ],
)
def test_a_slip_in_a_device_that_a_plan_names_is_told_with_its_file(
    content: str, said: str, own: Path
) -> None:
    (own / "hardware").mkdir()
    (own / "hardware" / "mine.yaml").write_text(content)
    with pytest.raises(UsageError) as caught:
        read_device("mine")
    assert said in str(caught.value)


def test_a_device_may_be_new(own: Path) -> None:
    changed(own, "hardware/h100_sxm")
    (own / "hardware" / "h100_sxm.yaml").rename(own / "hardware" / "mine.yaml")
    assert "mine" in device_names()
    assert "mine" in help_text("hardware")
    assert compose_config(["hardware=mine"]).hardware.memory_gigabytes
    assert option_files("hardware")["a100_80_sxm"].parent == conf_dir() / "hardware"


def test_another_projects_configuration_is_none_of_ours(own: Path) -> None:
    (own / "config.yaml").write_text("defaults: [model: resnet]\nlearning_rate: 0.1\n")
    (own / "first_look.yaml").write_text("learning_rate: 0.1\n")
    (own / "model").mkdir()
    (own / "model" / "resnet.yaml").write_text("layers: 50\n")
    (own / "db").mkdir()
    (own / "db" / "mysql.yaml").write_text("user: me\n")
    assert compose_config(["model=tiny"]).model.name == "tiny"
    assert compose_config([], "first_look").stages


def test_what_the_command_line_names_wins_over_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CONFIG_DIR, "")
    for folder, gigabytes in (("conf", 11), ("settings", 22)):
        changed(tmp_path / folder, "hardware/h100_sxm", memory_gigabytes=gigabytes)
    assert read_device("h100_sxm").memory_gigabytes == 11
    note_config_dir(["-cd", "settings"])
    assert read_device("h100_sxm").memory_gigabytes == 22
    assert compose_config(["hardware=h100_sxm"]).hardware.memory_gigabytes == 22
