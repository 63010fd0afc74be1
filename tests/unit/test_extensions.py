"""Plug-ins are found without being imported, by name, from three places; none hides another."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runner.api import compose_config
from runner.cli.help import help_text
from runner.config.fields import wanted
from runner.config.names import package_folder
from runner.config.options import conf_dirs, option_files
from runner.config.plugin_sections import root_type
from runner.config.schema.claims import Claim, Effect
from runner.config.schema.method import Method
from runner.config.schema.root import Config
from runner.engines import engine_names
from runner.errors import StageError, UsageError
from runner.methods import find_method, method_names, used_recipe
from runner.pipeline.context import RunContext
from runner.pipeline.stages import find_stage, retention_of
from runner.pipeline.stages.base import Stage, StageContext
from runner.pipeline.stages.quantize import QuantizeRequest
from runner.pipeline.stages.quantize.make import make
from runner.pipeline.worker.importable import importable
from runner.reporting.claims.decide import HOLDS, decide
from runner.reporting.compare.figures import figures
from runner.reporting.rows import rows_of
from runner.store.inventory import Retention
from runner.store.objects import Address
from runner.util import extensions
from runner.util.by_name import ByName
from runner.util.extensions import Extension, Kind, find, loaded, names, places, versions_of
from tests.unit.conftest import Compose, MakeInputs
from tests.unit.records import recipe, stage
from tests.unit.test_inputs import written

pytestmark = pytest.mark.unit

METHOD = """
from dataclasses import dataclass
from runner.config.schema.claims import Claim, Effect
from runner.config.schema.method import Method

@dataclass
class Halved(Method):
    backend: str = "transformers"
    threshold: float = 0.5

class HalvedMethod:
    config = Halved
    backends = {}

METHOD = HalvedMethod()
"""
STAGE = """
from dataclasses import dataclass
from runner.pipeline.stages.base import Stage

@dataclass
class Request:
    pass

@dataclass
class Tails:
    kurtosis: float
    unknown: float | None = None

class TailsStage(Stage[Request, Tails]):
    name = "tails"
    schema_version = 1
    request = Request
    result = Tails
    headline = ("tails/kurtosis", "tails/unknown")

STAGE = TailsStage()
"""
EXAMPLES = Path(__file__).parents[1] / "plugin_package" / "quant_runner_example"
HISTOGRAM = (EXAMPLES / "histogram.py").read_text()
OPTION = """
# Halves every weight.
defaults:
  - /schema/method/halved@_here_
  - _self_
name: halved
backend: transformers
"""


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A working directory of its own, and nothing remembered of what is installed."""
    monkeypatch.chdir(tmp_path)
    forget()


@pytest.fixture(autouse=True)
def forgotten() -> object:
    yield
    forget()


def forget() -> None:
    for cached in (
        places._entry_points, places.installed, places._every, extensions._conf_folders,
        extensions._warn,
    ):  # fmt: skip
        cached.cache_clear()


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution with a method, an option and a device."""
    site = tmp_path / "site"
    info = site / "halves-1.5.dist-info"
    write(info / "METADATA", "Metadata-Version: 2.1\nName: halves\nVersion: 1.5\n")
    write(info / "entry_points.txt", "[quant_runner.methods]\nhalved = halves.inner\n")
    write(site / "halves" / "__init__.py", "raise RuntimeError('too early')")
    write(site / "halves" / "inner.py", METHOD)
    write(site / "halves" / "conf" / "method" / "halved.yaml", OPTION)
    write(site / "halves" / "conf" / "model" / "half.yaml", "name: half\nkind: generated\n")
    monkeypatch.syspath_prepend(str(site))
    for name in [one for one in sys.modules if one.partition(".")[0] == "halves"]:
        monkeypatch.delitem(sys.modules, name)
    forget()
    return site


def test_ours_are_the_modules_that_set_the_attribute() -> None:
    assert {"gptq", "none", "rtn"} <= set(method_names())
    assert not {"base", "holders", "llm_compressor"} & set(method_names())
    assert engine_names() == ["hf", "llama_cpp", "vllm"]
    assert names(Kind.tracker) == ["mlflow", "none", "trackio", "wandb"]
    assert "quantize" in names(Kind.stage)
    assert versions_of(Kind.method, "rtn") == {}, "keys of results of ours stay as they are"


def test_an_installed_plug_in_is_listed_and_its_options_found_without_import(
    installed: Path,
) -> None:
    assert "halved" in method_names()
    assert "halved" not in names(Kind.method, builtin=True)
    assert installed / "halves" / "conf" in conf_dirs()
    assert {"halved", "rtn"} <= set(option_files("method"))
    assert "half" in option_files("model")
    assert "halves" not in sys.modules
    assert compose_config(["method=rtn"]).method.name == "rtn"
    assert "halves" not in sys.modules, "another method was asked for"


def test_a_plug_in_that_cannot_be_imported_stops_who_asks_for_it_alone(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"halved \(halves.inner of halves 1.5\).*too early"):
        find_method("halved")
    assert "rtn" in loaded(Kind.method) and "halved" not in loaded(Kind.method)
    assert capsys.readouterr().err.count("runner: warning: method halved") == 1


def test_a_plug_in_is_composed_and_its_fields_are_known(installed: Path) -> None:
    write(installed / "halves" / "__init__.py", "")
    assert wanted("method.threshold") == "a number"
    config = compose_config(["method=halved", "method.threshold=0.25"])
    assert isinstance(config.method, Method)
    assert type(config.method).__name__ == "Halved"
    assert vars(config.method)["threshold"] == 0.25
    assert versions_of(Kind.method, "halved") == {"halves": "1.5"}


def test_an_editable_plug_ins_code_is_part_of_its_version(installed: Path) -> None:
    url = {"url": "file:///there", "dir_info": {"editable": True}}
    write(installed / "halves-1.5.dist-info" / "direct_url.json", json.dumps(url))
    before = versions_of(Kind.method, "halved")
    assert before["halves"].startswith("1.5+sha256:")
    write(installed / "halves" / "inner.py", METHOD + "# changed")
    assert versions_of(Kind.method, "halved") != before


def test_the_working_directorys_plugins_are_found_where_its_conf_is(tmp_path: Path) -> None:
    write(tmp_path / "plugins" / "methods" / "helper.py", "raise RuntimeError('not one')")
    place = write(tmp_path / "plugins" / "methods" / "halved.py", METHOD)
    write(tmp_path / "conf" / "method" / "halved.yaml", OPTION)
    assert "halved" in method_names() and "helper" not in method_names()
    (first,) = versions_of(Kind.method, "halved").items()
    assert first[0] == "plugins/methods/halved.py" and first[1].startswith("sha256:")
    assert vars(compose_config(["method=halved"]).method)["threshold"] == 0.5
    place.write_text(METHOD.replace("0.5", "0.75"))
    assert dict([first]) != versions_of(Kind.method, "halved")
    assert find_method("halved").config().threshold == 0.75  # type: ignore[attr-defined]


def test_a_stage_of_ones_own_has_a_section_and_its_numbers_are_metrics(tmp_path: Path) -> None:
    write(tmp_path / "plugins" / "stages" / "histogram.py", HISTOGRAM)
    stage = find_stage("histogram")
    config = compose_config(["stages=[histogram]", "histogram.bins=16"])
    assert stage.section is not None
    context = RunContext.__new__(RunContext)
    context.config = config
    section = context.section(stage.section)
    assert (vars(config)["histogram"], section.bins) == (section, 16)
    assert (
        illegal_field("histogram.bins=1") == "histogram.bins=1 is less than 2; try histogram.bins=2"
    )
    result = stage.result([0.0, 1.0], [3], 3, 2.5)
    assert stage.metrics(result) == {"histogram/weights": 3, "histogram/kurtosis": 2.5}
    for unwritten in (Stage.run, Stage.obtain):
        with pytest.raises(NotImplementedError, match="stage histogram does not implement"):
            unwritten(stage, None, None)  # type: ignore[arg-type]


def illegal_field(word: str) -> str:
    with pytest.raises(UsageError) as caught:
        compose_config([word])
    return str(caught.value)


def test_a_stage_of_ones_own_takes_no_section_of_ours(tmp_path: Path) -> None:
    write(tmp_path / "plugins" / "stages" / "store.py", HISTOGRAM.replace('"histogram"', '"store"'))
    with pytest.raises(UsageError, match=r"would have section store .* is taken; rename the stage"):
        root_type()


def test_a_stage_that_cannot_be_loaded_stops_no_other_and_its_results_are_kept(
    tmp_path: Path,
) -> None:
    write(tmp_path / "plugins" / "stages" / "broken.py", "STAGE = nothing")
    assert root_type() is Config
    assert retention_of("broken") is retention_of("gone") is Retention.always


def test_results_of_an_older_version_of_a_stage_are_brought_up_to_date(tmp_path: Path) -> None:
    older = "    older = {1: lambda old: {**old, 'weights': sum(old['counts'])}}\n"
    code = HISTOGRAM.replace("    schema_version = 1\n", f"    schema_version = 2\n{older}")
    write(tmp_path / "plugins" / "stages" / "histogram.py", code)
    stage = find_stage("histogram")
    assert stage.read({"edges": [0, 1, 2], "counts": [3, 4], "kurtosis": 3.0}, 1).weights == 7


def test_what_a_plug_ins_settings_refuse_ends_in_one_line(installed: Path) -> None:
    write(installed / "halves" / "__init__.py", "")
    refusal = "    def __post_init__(self):\n        raise ValueError('half of what?')\n"
    code = METHOD.replace("threshold: float = 0.5\n", f"threshold: float = 0.5\n{refusal}")
    write(installed / "halves" / "inner.py", code)
    with pytest.raises(UsageError, match="half of what"):
        compose_config(["method=halved"])


def test_files_of_a_package_are_named_by_its_place(installed: Path) -> None:
    assert package_folder("halves") == str(installed / "halves")
    with pytest.raises(UsageError, match=r"\$\{runner.package:nowhere\}: no package nowhere is"):
        package_folder("nowhere")


def test_a_tracker_is_an_option_by_being_there(tmp_path: Path) -> None:
    write(
        tmp_path / "plugins" / "trackers" / "lines.py",
        '"""Prints lines."""\n'
        "from runner.reporting.tracking.base import TrackerImplementation\n"
        "TRACKER = TrackerImplementation(lambda *_: None)\n",
    )
    config = compose_config(["tracker=lines", "store.root=/there"])
    assert (config.tracker.name, config.tracker.directory) == ("lines", "/there/tracking")
    assert "lines" in option_files("tracker") and "Prints lines." in help_text("tracker")


def test_a_plug_in_stages_headline_is_in_rows_comparisons_and_claims(tmp_path: Path) -> None:
    write(tmp_path / "plugins" / "stages" / "tails.py", STAGE)
    one, other = (recipe(n, f"r{n}", 21.0, 60.0, 9_000_000) for n in (0, 1))
    for run, kurtosis in ((one, 3.5), (other, 4.0)):
        run.stages.append(stage("tails", "recipe", {"kurtosis": kurtosis}))
        run.stages.append(stage("tails", "baseline", {"kurtosis": 0.0}))
        run.stages.append(stage("of_a_plug_in_that_is_gone", "recipe", {}))
    dense, *rows = rows_of([one, other])
    assert [row.further for row in rows] == [{"tails/kurtosis": 3.5}, {"tails/kurtosis": 4.0}]
    assert dense.further == {"tails/kurtosis": 0.0}
    (figure,) = (one for one in figures(one, other) if one.name.startswith("tails"))
    assert (figure.name, figure.a, figure.b) == ("tails/kurtosis", 3.5, 4.0)
    assert figure.verdict == "unknown", "its noise is not known"

    claim = Claim("C", "s", "tails/kurtosis", "label=r0", "label=r1", at_most=-0.5)
    assert decide(claim, [one, other]).verdict == HOLDS
    claim = Claim("C", "s", "tails/kurtosis", "label=r0", "unquantized", Effect.ratio)
    (found,) = decide(claim, [one, other]).comparisons
    assert found.verdict.endswith("there is no ratio of 3.5 to 0")


def test_an_option_of_a_plug_in_hides_none_of_ours(installed: Path) -> None:
    write(installed / "halves" / "conf" / "model" / "tiny.yaml", "name: other\n")
    with pytest.raises(UsageError, match=r"two options are called model/tiny: .*halves/conf"):
        option_files("model")


def test_a_plug_in_whose_package_is_gone_is_not_linked(installed: Path, tmp_path: Path) -> None:
    write(
        installed / "halves-1.5.dist-info" / "entry_points.txt",
        "[quant_runner.methods]\nhalved = halves.inner\nother = nowhere.inner\n",
    )
    forget()
    made = {one.name for one in importable(tmp_path / "cache").iterdir()}
    assert made == {"halves", "halves-1.5.dist-info", "runner"}


def test_another_interpreter_finds_what_is_installed(installed: Path, tmp_path: Path) -> None:
    place = importable(tmp_path / "cache")
    assert importable(tmp_path / "cache") == place, "another process has, just now"
    assert {"halves", "halves-1.5.dist-info", "runner"} == {one.name for one in place.iterdir()}
    write(installed / "halves" / "__init__.py", "")
    program = (
        "from runner.util.extensions import Kind, find; one = find(Kind.method, 'halved'); "
        "print(one.distribution, one.versions(), one.load().config.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd="/", env={"PYTHONPATH": str(place)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "halves {'halves': '1.5'} Halved\n"


@pytest.mark.parametrize("name", ["rtn", "halved"])
def test_two_of_a_name_are_refused_with_both_places(
    name: str, installed: Path, tmp_path: Path
) -> None:
    write(tmp_path / "plugins" / "methods" / f"{name}.py", METHOD)
    places = {"rtn": "runner.methods.rtn of the runner", "halved": "halves.inner of halves 1.5"}
    with pytest.raises(UsageError, match="two methods are called") as error:
        find(Kind.method, "gptq")
    assert places[name] in str(error.value)
    assert f"plugins/methods/{name}.py" in str(error.value)


@pytest.mark.parametrize("file", ["halves/lines.py", "halves/lines/__init__.py", "lines.py"])
def test_an_installed_tracker_is_an_option_by_being_there(file: str, installed: Path) -> None:
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    entries = installed / "halves-1.5.dist-info" / "entry_points.txt"
    entries.write_text(f"[quant_runner.trackers]\nlines = {module}\ngone = nowhere.at_all\n")
    code = write(installed / file, '"""Prints lines."""\n')
    forget()
    assert option_files("tracker")["lines"] == code
    assert "gone" not in option_files("tracker"), "it has no code"


def test_a_plug_in_that_says_what_is_wrong_is_quoted(tmp_path: Path) -> None:
    write(
        tmp_path / "plugins" / "methods" / "halved.py",
        "from runner.errors import UsageError\nMETHOD = None\nraise UsageError('needs a licence')",
    )
    for _ in range(2):
        with pytest.raises(UsageError, match=r"^needs a licence$"):
            find(Kind.method, "halved").load()
    with pytest.raises(ModuleNotFoundError):  # a fault of ours, not of a plug-in's
        Extension(Kind.method, "gone", "runner.methods.gone", "METHOD").load()


def test_a_package_in_plugins_counts_with_all_its_code(tmp_path: Path) -> None:
    folder = tmp_path / "plugins" / "methods" / "halved"
    write(folder / "__init__.py", METHOD)
    before = versions_of(Kind.method, "halved")
    write(folder / "inner.py", "HALF = 0.5\n")
    assert versions_of(Kind.method, "halved") != before


def test_a_file_that_no_option_can_be_called_by_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "plugins" / "methods" / "my-method.py", METHOD)
    with pytest.raises(UsageError, match=r"my-method\.py: 'my-method' cannot be an option's name"):
        names(Kind.method)


def test_a_recipe_without_its_methods_name_is_refused() -> None:
    with pytest.raises(ValueError, match="the name of the method is missing"):
        ByName(Kind.method)._read({"bits": 4})


def test_the_code_of_a_stage_of_ones_own_decides_its_results(
    tmp_path: Path, inputs: MakeInputs
) -> None:
    def address() -> Address:
        one = inputs()
        environment = one.environment("transformers")
        request = dict[str, int]()
        return one.obtain(
            find_stage("histogram"), request, environment, title="t",
            determinants={"versions": {"numpy": "2"}},
        ).address  # fmt: skip

    place = write(tmp_path / "plugins" / "stages" / "histogram.py", HISTOGRAM)
    before = address()
    assert address() == before
    write(place, HISTOGRAM + "# changed\n")
    assert address() != before


def test_patches_of_an_environment_decide_what_is_computed_in_it(
    tmp_path: Path, inputs: MakeInputs
) -> None:
    write(tmp_path / "plugins" / "stages" / "histogram.py", HISTOGRAM)

    def address(*patches: str) -> Address:
        one = inputs()
        environment = replace(one.environment("transformers"), patches=patches)
        return one.obtain(
            find_stage("histogram"), dict[str, int](), environment, title="t", determinants={}
        ).address

    assert address("first") == address("first")
    assert len({address(), address("first"), address("first", "second")}) == 3


def test_a_method_that_writes_nothing_makes_no_checkpoint(
    tmp_path: Path, composed: Compose
) -> None:
    model, output = tmp_path / "model", tmp_path / "output"
    written(model)
    output.mkdir()
    code = (EXAMPLES / "ternary.py").read_text().replace("import torch\n", "return\n", 1)
    write(tmp_path / "plugins" / "methods" / "ternary.py", code)
    config = composed("bits=w2a16", "group_size=per_channel")
    config.method = find_method("ternary").config(name="ternary")
    request = QuantizeRequest(model, used_recipe(config), None, "cpu", "float32", False, {})
    context = StageContext(output, output, output, 1, lambda *_: None, lambda load: load())
    with pytest.raises(StageError, match=r"ternary.* wrote no weights"):
        make(request, context)
