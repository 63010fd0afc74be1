"""Composition as the command line does it, for tests of what is composed."""

import ctypes
import functools
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra

from runner.config.compose import register, typed
from runner.config.kept_configs import KeptConfigs
from runner.config.kept_merges import KeptMerges
from runner.config.schema.architecture import Architecture
from runner.config.schema.root import Config
from runner.multirun.dry_run.session import PeekSession
from runner.pipeline.inputs import Inputs
from runner.planning.hardware.detect import Machine
from runner.planning.model_shape import Shape
from runner.util.gpus import Gpu
from runner.util.nvidia_driver import installed_driver
from runner.util.paths import conf_dir
from runner.util.serialise import from_json
from runner.validation.verdict import Verdict
from tests.stub_driver import LIBRARY, compiled
from tests.unit.judging import Changes, Judge, judge_changed

Compose = Callable[..., Config]

# Hydra makes its plug-ins' classes anew when it looks for them: before a test file imports ours,
# which extend them, as on a command line.
register()
MakeInputs = Callable[..., Inputs]


def pytest_configure() -> None:
    """Composing makes and drops objects by the million: looking for cycles less often saves 13%."""
    gc.set_threshold(100_000, 20, 100)


def raising(error: BaseException) -> Callable[..., Any]:
    """A function that raises an error whatever it is given."""

    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whatever is written goes here, and the CPU is what a test says it is."""
    monkeypatch.delenv("QUANT_RUNNER_INSTRUCTION_SETS", raising=False)
    installed_driver.cache_clear()
    monkeypatch.setenv("QUANT_RUNNER_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


StubDriver = Callable[..., None]


@pytest.fixture
def stub_driver(monkeypatch: pytest.MonkeyPatch) -> StubDriver:
    """Gives this process made-up GPUs: ``stub_driver(cards(H100), CUDA_VISIBLE_DEVICES="0")``.

    ``None`` for the GPUs: no driver answers; for a variable: it is not set.
    """
    library = compiled()
    ctypes.CDLL(str(library))
    # The loader knows libraries by their names: the first of this one is what is found.
    loaded = Path("/proc/self/maps").read_text("utf-8")
    if any(LIBRARY in line and str(library) not in line for line in loaded.splitlines()):
        pytest.skip("the driver of this machine is loaded already")

    def tell(gpus: str | None, **variables: str | None) -> None:
        for name, value in {"CUDA_VISIBLE_DEVICES": None, **variables, "STUB_GPUS": gpus}.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    return tell


@functools.cache
def kept_loader(_: Path) -> ConfigLoaderImpl:
    """As a sweep's: hundreds of compositions read and merge what they share once."""
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_dir())))
    loader.repository = KeptConfigs(loader.repository)
    KeptMerges(loader)
    return loader


def compose_typed(*overrides: str, name: str = "config") -> Config:
    """The configuration of a run with these overrides."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="runner"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        # Which configurations there are depends on the working directory.
        hydra.config_loader = kept_loader(Path.cwd())
        return typed(compose(name, overrides=list(overrides)))


@pytest.fixture
def composed() -> Compose:
    return compose_typed


@pytest.fixture
def cpu() -> Machine:
    """A small server without a GPU."""
    return Machine(
        cpu_name="a CPU",
        cpu_architecture="x86_64",
        physical_cores=2,
        usable_cores=2,
        instruction_sets=("avx2",),
        last_level_cache_bytes=32_000_000,
        memory_bytes=24_000_000_000,
        gpus=(),
    )


@pytest.fixture
def judged(composed: Compose, cpu: Machine) -> Judge:
    def found(base: str, changes: Changes, machine: Machine = cpu, **facts: Any) -> list[Verdict]:
        return judge_changed(composed, machine, base, changes, **facts)

    return found


@pytest.fixture
def gpu(cpu: Machine) -> Machine:
    """The same with an A100 in it."""
    card = Gpu("NVIDIA A100-SXM4-80GB", 85_000_000_000, "8.0", "GPU-0")
    return Machine(**{**vars(cpu), "gpus": (card,)})


@pytest.fixture
def inputs(composed: Compose, tmp_path: Path, cpu: Machine) -> MakeInputs:
    """Of a configuration on a machine, with an empty store."""

    def made(*overrides: str, machine: Machine = cpu) -> Inputs:
        session = PeekSession(tmp_path / "store", tmp_path / "environments")
        session.machine = machine
        return Inputs(composed(*overrides), session, "sweep")

    return made


@pytest.fixture(scope="session")
def shapes() -> dict[str, Shape]:
    """Every model of conf/model that states its dimensions, by name."""
    found = {}
    for path in (conf_dir() / "model").glob("*.yaml"):
        content = yaml.safe_load(path.read_text("utf-8"))
        if "architecture" in content:
            found[path.stem] = Shape(from_json(Architecture, content["architecture"]))
    return found
