"""What ships in conf/ and sweeps/ composes into the typed configuration, and mistakes do not."""

import importlib
import re
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml
from hydra.core.config_store import ConfigStore
from hydra.types import RunMode
from hydra.utils import instantiate
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from runner.api import run
from runner.config.compose import register
from runner.config.schema.architecture import Architecture
from runner.config.schema.bits import NumberType
from runner.config.schema.calibration import Calibration
from runner.config.schema.environment import Environment
from runner.config.schema.group_size import Granularity
from runner.config.schema.hardware import Hardware
from runner.config.schema.model import Model, ModelKind
from runner.config.schema.root import Config, StageName
from runner.config.schema.standard_formats import standard_name
from runner.data.models.architecture.reading import architecture_of
from runner.data.models.stated_size import named_sizes
from runner.environments.create import constraints_file
from runner.errors import UsageError
from runner.methods import find_method, method_names
from runner.planning.model_shape import Shape
from runner.util.paths import conf_dir, sweeps_dir
from runner.validation.layers import linear_inputs
from tests.unit.conftest import kept_loader

pytestmark = pytest.mark.unit

Compose = Callable[..., Config]

MANDATORY = {
    "model/local": ["model.path=somewhere"],
    "model/hub": ["model.hub_id=owner/name"],
    "calibration/local": ["calibration.text.path=somewhere"],
    "text/local": ["calibration.text.path=somewhere"],
    "task/local": ["tasks.own.it.items.path=somewhere"],
    "tasks/local": ["tasks.own.local.items.path=somewhere"],
}
"""What an option cannot be composed without."""

PLACES = {"model/local": "somewhere", "text/local": "somewhere"}
"""Options whose name is read off the path that ``MANDATORY`` gives them."""

OPTIONS = sorted(
    path.relative_to(conf_dir()).with_suffix("").as_posix()
    for path in conf_dir().rglob("*.yaml")
    if path.parent != conf_dir() and "hydra" not in path.parts
)
SWEEPS = sorted(path.stem for path in sweeps_dir().glob("*.yaml"))


def test_every_group_of_the_schema_has_options() -> None:
    groups = {option.split("/")[0] for option in OPTIONS}
    plain = {
        "stages",
        "force",
        "sweep",
        "store",
        "compare",
        "gate",
        "audit",
        "release",
        "claims",
        "launch",
        "dry_run",
        "report",
    }
    assert set(Config.__dataclass_fields__) - plain == groups - {"text", "task"}


def rows() -> list[tuple[str, ...]]:
    """Every option once, those of groups that have nothing to do with each other together."""
    apart = {"bits", "group_size", "method", "text"}
    groups: dict[str, list[str]] = {}
    for option in OPTIONS:
        groups.setdefault(option.split("/")[0], []).append(option)
    alone = [(option,) for option in OPTIONS if option.split("/")[0] in apart]
    together = zip_longest(*(of for group, of in groups.items() if group not in apart))
    return alone + [tuple(filter(None, row)) for row in together]


@pytest.mark.parametrize("options", rows(), ids=" ".join)
def test_every_option_composes(options: tuple[str, ...], composed: Compose) -> None:
    # A text is no group of its own: it fills a place in calibration or eval; so does a task.
    places = {"text": "text@calibration.text", "task": "+task@tasks.own.it"}
    overrides = []
    for option in options:
        group, name = option.split("/", 1)
        overrides += [f"{places.get(group, group)}={name}", *MANDATORY.get(option, [])]
    config = composed(*overrides)
    assert isinstance(config, Config)
    for option in options:
        check_option(*option.split("/", 1), config)


def check_option(group: str, name: str, config: Config) -> None:
    """The option is there, under its name."""
    if group == "text":
        assert isinstance(config.calibration, Calibration)
        assert config.calibration.text is not None
        assert config.calibration.text.name == PLACES.get(f"text/{name}", name)
    elif group == "task":
        assert config.tasks.own["it"].name == name
    elif group == "bits":
        names = (config.bits.label, standard_name(config.bits, config.group_size))
        assert name in names or (name == "auto" and config.bits.is_auto)
    elif group in ("group_size", "kv_cache"):
        assert getattr(config, group).label == name
    elif group == "method":
        assert type(config.method) is find_method(name).config
    elif group == "environment":
        assert config.environment[name].name == name
        check_environment(config.environment[name])
    elif (
        group not in ("eval", "bench", "plan", "sensitivity", "serving", "decide") and name != "hub"
    ):
        expected = PLACES.get(f"{group}/{name}", name.replace("/", "_"))
        assert getattr(config, group).name == expected
    check_dimensions(config.model)
    check_limits(config.hardware)


def check_environment(environment: Environment) -> None:
    """Everything is pinned, and everything it names is there."""
    path = constraints_file(environment)
    assert path, "what is not pinned is whatever the index has today"
    pinned = {
        canonicalize_name(Requirement(line).name)
        for line in path.read_text().splitlines()
        if not line.startswith("#")
    }
    for text in environment.requirements:
        requirement = Requirement(text)
        exact = any(s.operator == "==" for s in requirement.specifier)
        assert exact or canonicalize_name(requirement.name) in pinned, f"{text} is not pinned"
    for patch in environment.patches:
        module = importlib.import_module(f"runner.environments.patches.{patch}")
        assert re.search(r"\d+\.\d+", module.__doc__ or ""), "says which version it is for"
        assert callable(module.apply)
    assert set(environment.accelerators) <= {"cpu", "cuda"}
    assert environment.provides
    assert environment.self_test


def test_the_default_environment_is_what_set_up_installs() -> None:
    """Made apart or adopted, it has the same versions."""

    def lines(path: Path) -> set[str]:
        return {line for line in path.read_text().splitlines() if not line.startswith("#")}

    constraints = lines(conf_dir().parent / "constraints.txt")
    default = yaml.safe_load((conf_dir() / "environment" / "default.yaml").read_text())
    assert lines(conf_dir() / "environment" / "default.txt") <= constraints
    assert set(default["requirements"]) <= constraints


def check_dimensions(model: Model) -> None:
    """The dimensions give the number of parameters stated beside them."""
    shape = model.architecture
    if model.config:
        assert shape == Architecture(), "the config says it all"
        shape = architecture_of(model.config)
        assert shape.heads and shape.kv_heads and shape.layers and shape.vocab and shape.context
        assert shape.family and shape.hidden and (shape.intermediate or shape.family == "falcon")
        assert linear_inputs(shape), "a group size is held against these"
        return
    if shape.hidden is None:
        assert model.kind in (ModelKind.local, ModelKind.hub), "only a user's model is open"
        return
    # Norms, biases and positions are not all counted: 0.15% of OPT-6.7B.
    counted = Shape(shape)
    assert counted.counted == pytest.approx(shape.parameters, rel=2e-3)
    for stated in named_sizes(model):
        number = counted.active_parameters if stated.active else counted.parameters
        tables = counted.embedding_weights * (1 if counted.tied else 2)
        assert stated.holds(number, number - tables), stated


def check_limits(hardware: Hardware) -> None:
    """A device in the table states its limits and where they were read, and they agree."""
    if hardware.kind == "local":
        assert hardware.memory_gigabytes is None
        return
    assert hardware.memory_gigabytes and hardware.memory_bandwidth_gigabytes_per_second
    assert hardware.source and hardware.generation
    assert hardware.interconnect.name or hardware.interconnect.largest_group == 1
    peak, native = hardware.peak_teraflops, hardware.native_formats
    assert set(native) - {"int4"} <= set(peak)
    assert set(peak) - {"fp32", "tf32", "fp16"} <= set(native)
    if (shown := hardware.visible_memory_gibibytes) is not None:
        # Where the CPU shares it, the GPU gets three quarters of it, as a rule.
        shared = (hardware.memory_type or "").startswith("LPDDR")
        assert (0.74 if shared else 0.9) < shown / hardware.memory_gigabytes < 1
    if hardware.price.dollars_per_hour is not None:
        assert hardware.price.date and hardware.price.source
        assert 0.1 < hardware.price.dollars_per_hour < 20
    if hardware.kind == "cuda":
        check_generation(hardware)
    sixteen = peak.get("bf16") or peak["fp16"]
    # A dense peak doubles with each halving of bits, at most with a wider accumulator too.
    for name, most in (("fp8", 2), ("int8", 4), ("int4", 8), ("fp4", 8)):
        assert 1 <= peak.get(name, sixteen) / sixteen <= most * 1.03


def check_generation(hardware: Hardware) -> None:
    """Matrix formats follow from the compute capability, whatever a table in circulation says."""
    generation = float(hardware.compute_capability or 0)
    native = set(hardware.native_formats)
    assert ("int8" in native) == (generation >= 7.5 and generation != 10.3)
    assert ("bf16" in native) == (generation >= 8.0)  # the RTX 3090 and A10G among them
    assert ("fp8" in native) == (generation >= 8.9)  # Ada as well as Hopper
    assert ("fp4" in native) == (generation >= 10.0)
    # Hopper and later emulate int4; every one from Turing to Ada has it.
    assert ("int4" in native) == (7.5 <= generation < 9.0)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_composes_and_so_does_every_job_of_it(name: str, composed: Compose) -> None:
    whole = kept_loader(Path.cwd()).load_configuration(name, [], RunMode.MULTIRUN)
    grids = whole.hydra.sweeper.get("grids") or {"space": whole.hydra.sweeper.space}
    assert all(grids.values())
    seen: set[str] = set()
    for grid in grids.values():
        choices = {key: str(value).split(",") for key, value in grid.items()}
        # Every choice of every key once; the whole product would only repeat them.
        for number in range(max(map(len, choices.values()))):
            job = [f"{key}={some[number % len(some)]}" for key, some in choices.items()]
            if not seen.issuperset(job):
                assert isinstance(composed(*job, name=name), Config)
            seen.update(job)


PLANNED_ALONE = {
    "deepseek_v32", "deepseek_v4", "gemma4_text", "glm_moe_dsa", "kimi_k2", "kimi_linear",
    "llama4_text", "minimax_m2", "minimax_m3", "nemotron_h", "qwen3_5_moe_text", "qwen3_5_text",
}  # fmt: skip
"""Families of named models that no machine for tests holds and transformers may lack: a plan reads
their dimensions, and whether methods can quantize them is not tested."""


def test_the_zoo_has_every_family_of_the_models_named_and_the_sweep_has_the_zoo() -> None:
    named = [yaml.safe_load(path.read_text()) for path in (conf_dir() / "model").glob("*.yaml")]
    zoo = sorted((conf_dir() / "model" / "zoo").glob("*.yaml"))
    kinds = {yaml.safe_load(path.read_text())["config"]["model_type"] for path in zoo}
    families = {model.get("architecture", {}).get("family") for model in named} - {None}
    assert {"llama", "deepseek_v3", "gemma2", "opt", "phi3"} < families
    assert families - kinds == PLANNED_ALONE
    sweep = yaml.safe_load((sweeps_dir() / "zoo.yaml").read_text())["hydra"]["sweeper"]
    assert sorted(sweep["params"]["model"].split(",")) == [f"zoo/{path.stem}" for path in zoo]
    methods = {one for grid in sweep["grids"].values() for one in grid["method"].split(",")}
    assert methods == {*method_names()}


def test_every_method_has_one_option_and_its_own_schema() -> None:
    assert {f"method/{name}" for name in method_names()} == {
        option for option in OPTIONS if option.startswith("method/")
    }
    register()
    shipped = ConfigStore.instance().list("schema/method")
    assert [name.removesuffix(".yaml") for name in shipped] == method_names()


@pytest.mark.parametrize(
    ("overrides", "label", "group_size", "calibration"),
    [
        ([], "w4a16", "g64", "openwebtext"),
        (["method=rtn"], "w4a16", "g64", "openwebtext"),
        (["method=bnb_4bit"], "nf4", "g64", "none"),
        (["method=bnb_4bit", "bits=fp4"], "fp4", "g64", "none"),
        (["bits=fp4", "method=bnb_4bit"], "fp4", "g64", "none"),
        (["method=llm_int8"], "w8a8", "per_channel", "none"),
        (["method=llm_int8", "group_size=g32"], "w8a8", "g32", "none"),
        (["method=none"], "bf16", "g64", "none"),
        (["method=none", "bits=fp32", "calibration=bible"], "fp32", "g64", "bible"),
        (["bits=w8a8"], "w8a8", "per_channel", "openwebtext"),
        (["bits=fp8_e4m3", "method=rtn"], "fp8_e4m3", "per_channel", "openwebtext"),
        (["bits=w8a8", "group_size=g128"], "w8a8", "g128", "openwebtext"),
        (["bits=w4a16", "bits.weight.num_bits=3"], "w3a16", "g64", "openwebtext"),
        (["group_size=g64", "group_size.size=96"], "w4a16", "g96", "openwebtext"),
    ],
)
def test_a_method_picks_what_the_command_line_leaves_open(
    overrides: list[str], label: str, group_size: str, calibration: str, composed: Compose
) -> None:
    config = composed(*overrides)
    assert config.bits.label == label
    assert config.group_size.label == group_size
    assert config.calibration.name == calibration


def test_values_arrive_with_their_types(composed: Compose, store: Path) -> None:
    config = composed("stages=[eval]", "method.desc_act=true", "eval.windows=3")
    assert config.stages == [StageName.eval]
    assert getattr(config.method, "desc_act", None) is True
    assert config.eval.windows == 3
    assert config.bits.weight.type is NumberType.int
    assert config.group_size.granularity is Granularity.group
    assert config.store.root == str(store)
    assert config.tracker.directory == str(store / "tracking")


def test_the_evaluation_text_is_chosen_like_any_option(composed: Compose) -> None:
    assert composed("text@eval.text=bible").eval.text.name == "bible"
    assert composed("text@eval.text=bible").calibration.name == "openwebtext"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("method=gtpq", "did you mean gptq?"),
        ("mehtod=gptq", "did you mean method?"),
        ("bits.weight.num_bit=3", "did you mean num_bits?"),
        ("method.threshold=5", "there is no method.threshold"),
        ("bits=4", "options of bits: auto, bf16"),
        ("eval.windows=lots", "eval.windows=lots must be a whole number"),
        ("method.sym=perhaps", "method.sym=perhaps must be true or false"),
        ("engine.device=gpu", "expected one of [auto, cpu, cuda, cuda:N]"),
        ("stages=[nonsense]", "expected one of [audit, bench, compare, eval, "),
        ("eval.text=bible", "text@eval.text=OPTION"),
        ("+method.fooo=1", "there is no method.fooo"),
        ("+foo=1", "there is no foo"),
        ("model=local", "model.path has no value"),
        ("model=hub", "model.hub_id has no value"),
        ("calibration=local", "calibration.text.path has no value"),
        ("text@eval.text=local", "eval.text.path has no value"),
        ("store.root=${nope}", "'nope' not found"),
        ("foo", "not of the form group=option"),
        ("bits=w4a16,w8a16", "add -m"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(override: str, said: str, store: Path) -> None:
    with pytest.raises(UsageError) as caught:
        run([override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not store.exists()


def test_an_unknown_configuration_names_the_ready_ones() -> None:
    with pytest.raises(UsageError, match=r"no -cn first_lok; did you mean first_look\?"):
        run([], config_name="first_lok")


LAUNCHERS = sorted(path.stem for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"))


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_composes(launcher: str) -> None:
    words = [f"hydra/launcher={launcher}"]
    chosen = kept_loader(Path.cwd()).load_configuration("config", words, RunMode.RUN)
    kind = "Ray" if launcher == "ray" else "Submitit"
    assert chosen.hydra.launcher._target_ == f"hydra_plugins.quant_runner.{kind}Launcher"
    assert chosen.hydra.launcher.get("timeout_min", 1) > 0
    # Every setting is one that the launcher knows.
    assert instantiate(chosen.hydra.launcher).poll_seconds == chosen.hydra.launcher.poll_seconds
