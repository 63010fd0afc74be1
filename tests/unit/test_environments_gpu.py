"""Environments where there is a GPU and where not: their torch, and what stands in the way."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.cli import env as cli
from runner.config.schema.environment import Environment
from runner.environments.create import READY_FILE, _uv, create
from runner.environments.cuda_compiler import _release, compiled_for
from runner.environments.manager import EnvironmentManager, State, _digest
from runner.environments.needs import unmet
from runner.environments.obstacle import obstacle
from runner.environments.ready import ReadyEnvironment
from runner.environments.torch_build import torch_build, uv_choice
from runner.environments.torch_cuda import Torch, torch_of
from runner.errors import RunnerError, StageError
from runner.pipeline.facts import gather_facts
from runner.pipeline.stages.jobs.hardware import STAGE as HARDWARE
from runner.planning.hardware.detect import Machine
from runner.util.nvidia_driver import OLDEST_DRIVERS, Driver, driver_of, installed_driver
from runner.validation.check import check
from tests.stub_driver import H100, cards
from tests.unit.conftest import Compose, MakeInputs, StubDriver
from tests.unit.judging import illegal_ones

pytestmark = pytest.mark.unit

SetDriver = Callable[[Driver | None], None]
R580, R550 = Driver("580.65.06", "13.0"), Driver("550.144.03", "12.4")
BOTH = ["cpu", "cuda"]
CPU_TORCH = "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
CUDA_TORCH = "__version__ = '2.13.0'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"


@pytest.fixture(autouse=True)
def _nothing_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS", "UV_TORCH_BACKEND", "UV_CUDA_DRIVER_VERSION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> SetDriver:
    """Sets the driver that this machine has; none at first."""

    def put(driver: Driver | None) -> None:
        for module in (
            "environments.torch_build",
            "environments.needs",
            "environments.obstacle",
            "environments.manager",
            "cli.env",
        ):
            monkeypatch.setattr(f"runner.{module}.installed_driver", lambda: driver)

    put(None)
    return put


def mine(**fields: object) -> Environment:
    asked = {"accelerators": BOTH, "torch_backend": "auto", "requirements": ["torch==2.13.0"]}
    return Environment(**{"name": "mine", **asked, **fields})  # type: ignore[arg-type]


def made(root: Path, environment: Environment, version: str = CPU_TORCH) -> Path:
    """What is left of making an environment: its interpreter is this one, its torch a file."""
    place = root / f"{environment.name}-{_digest(environment)}"
    packages = place / "lib" / "python3.11" / "site-packages"
    (packages / "torch").mkdir(parents=True)
    (packages / "torch" / "__init__.py").write_text("from torch.version import __version__")
    (packages / "torch" / "version.py").write_text(f"from typing import Optional\n{version}")
    (place / "bin").mkdir()
    python = place / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    torch = torch_build(environment)
    installed = {"torch": version.split("'")[1]}
    told = {"name": "mine", "digest": _digest(environment), "torch": torch, "installed": installed}
    (place / READY_FILE).write_text(json.dumps(told))
    return place


def held(root: Path, environment: Environment) -> cli._Environments:
    """What ``runner env`` works on; composing it takes half a second."""
    environments = cli._Environments.__new__(cli._Environments)
    environments.cache = root / "cache"
    environments.known = {environment.name: environment}
    environments.manager = EnvironmentManager(root, root)
    return environments


def test_machines_with_and_without_a_gpu_use_directories_of_their_own_in_a_shared_store(
    driven: SetDriver, tmp_path: Path
) -> None:
    manager = EnvironmentManager(tmp_path, tmp_path)
    made(tmp_path, mine())
    assert manager.state(mine()) is State.ready
    driven(R580)
    assert manager.state(mine()) is State.absent, "the one for CPUs is neither its own nor outdated"
    made(tmp_path, mine(), CUDA_TORCH)
    assert manager.state(mine()) is State.ready
    ready = manager.find(mine())
    assert ready is not None and ready.installed == {"torch": "2.13.0"}
    driven(R550)
    assert manager.state(mine()) is State.absent
    driven(None)
    assert manager.state(mine()) is State.ready
    assert manager.state(mine(requirements=["torch==2.14.0"])) is State.outdated
    assert len(manager.kept()) == 2


def test_the_list_of_environments_shows_those_of_other_machines(
    driven: SetDriver,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    driven(R580)
    made(tmp_path, mine(), CUDA_TORCH)
    driven(None)
    made(tmp_path, mine())
    cli._list(held(tmp_path, mine()), [])
    here, elsewhere = (
        line.split() for line in capsys.readouterr().out.splitlines() if "torch 2" in line
    )
    assert here[:2] == ["mine", "ready"] and here[-2:] == ["torch", "2.13.0+cpu"]
    assert elsewhere[:2] == ["elsewhere:", "cuda13"] and elsewhere[-2:] == ["torch", "2.13.0"]


def test_without_a_gpu_an_environment_keeps_the_name_it_had(driven: SetDriver) -> None:
    driven(None)
    assert _digest(mine()) == "0f36feef6aff", "as before builds of torch were told apart"
    assert _digest(mine(torch_backend="cpu")) == "107185f597f6"
    assert _digest(mine(torch_backend=None)) == "9fac059b955f"


@pytest.mark.parametrize(
    ("environment", "build"),
    [
        (mine(), "cuda13"),
        (mine(torch_backend="cpu"), "cpu"),
        (mine(torch_backend="cu128"), "cu128"),
        (mine(torch_backend=None), None),
        (mine(accelerators=["cpu"]), "cpu"),
    ],
)
def test_auto_is_a_build_for_the_driver_where_the_environment_is_for_gpus(
    environment: Environment, build: str | None, driven: SetDriver
) -> None:
    driven(R580)
    assert torch_build(environment) == build


def test_an_environment_for_gpus_alone_gets_a_torch_for_them_where_there_is_none(
    driven: SetDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert torch_build(mine(accelerators=["cuda"], cuda=12)) == "cuda12"
    assert torch_build(mine(accelerators=["cuda"])) == f"cuda{max(OLDEST_DRIVERS)}"
    monkeypatch.setenv("UV_CUDA_DRIVER_VERSION", "550.54")
    assert torch_build(mine()) == "cuda12", "a login node is told what the nodes have"


def test_variables_and_wheels_of_the_users_own_decide_and_are_hashed(
    driven: SetDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = _digest(mine())
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    interpreter = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = f"{interpreter}-{interpreter}-manylinux_2_28_{os.uname().machine}.whl"
    for name in ("torch-2.12.0+cu126-" + platform, "torch-2.13.0+cu130-cp27-cp27-linux_nope.whl"):
        (tmp_path / name).touch()
    assert torch_build(mine()) == "cpu", "of another version, or for another interpreter"
    (tmp_path / f"torch-2.13.0+cpu-{platform}").touch()
    assert (torch_build(mine()), uv_choice(mine())) == ("cpu", ([], {}))
    assert _digest(mine()) == plain
    (tmp_path / f"torch-2.13.0+cu130-{platform}").touch()
    assert (torch_build(mine()), uv_choice(mine())) == ("cu130", ([], {}))
    assert _digest(mine()) != plain
    monkeypatch.setenv("UV_TORCH_BACKEND", "cu126")
    assert uv_choice(mine()) == (["--torch-backend", "cu126"], {})
    monkeypatch.setenv("UV_TORCH_BACKEND", "auto")
    assert torch_build(mine()) == "cpu"


@pytest.mark.parametrize(
    ("driver", "first"), [(None, "cpu"), (R550, "cu12"), (R580, "cu13"), (driver_of("470"), "cu11")]
)
def test_uv_looks_for_the_build_that_is_hashed(
    driver: Driver | None, first: str, driven: SetDriver, tmp_path: Path
) -> None:
    """uv itself, offline: it tells where it would have looked, in which order."""
    driven(driver)
    options, variables = uv_choice(mine())
    done = subprocess.run(
        [_uv(), "pip", "install", "-vv", "--offline", "--dry-run", "--cache-dir", tmp_path,
         "--python", sys.executable, *options, "torch==0.0.1"],
        env={**os.environ, **variables, "UV_NO_CONFIG": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    looked = re.findall(r"/whl/(\w+)", done.stderr)
    assert looked[0].startswith(first), done.stderr
    assert len(set(looked)) == 1 if driver is None else len(set(looked)) > 5


def test_a_cpu_build_of_the_runners_own_torch_is_not_taken_beside_a_gpu(
    driven: SetDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = EnvironmentManager(tmp_path, tmp_path)
    own = mine(adopts_control=True, requirements=["numpy"])
    assert manager.state(own) is State.control
    driven(R580)
    where = "runner.environments.manager.torch_of"
    monkeypatch.setattr(where, {sys.executable: Torch("2.13.0+cpu", None)}.get)
    assert manager.state(own) is manager.state(own, "cuda") is State.absent
    assert manager.state(own, "cpu") is State.control, "it serves what computes on the CPU"
    ready = manager.find(own, "cpu")
    assert ready is not None and ready.is_control and manager.find(own) is None
    assert (
        manager.state(mine(adopts_control=True, requirements=["numpy"], torch_backend="cpu"))
        is State.control
    )
    monkeypatch.setattr(where, lambda _: Torch("2.13.0", "13.0"))
    assert manager.state(own) is State.control
    driven(R550)
    assert manager.state(own) is State.absent


@pytest.mark.parametrize(
    ("text", "torch"),
    [
        (CPU_TORCH, Torch("2.13.0+cpu", None)),
        (CUDA_TORCH, Torch("2.13.0", "13.0")),
        (CPU_TORCH.replace("hip: Optional[str] = None", "hip = '6.3'"), None),
        ("__version__ = '1.0'\ncuda = None\n", Torch("1.0", None)),
        ("# it says 'nothing'", None),
    ],
)
def test_what_a_torch_was_built_for_is_found_without_importing_it(
    text: str, torch: Torch | None, driven: SetDriver, tmp_path: Path
) -> None:
    python = made(tmp_path, mine(), text) / "bin" / "python"
    assert torch_of(str(python)) == torch


def test_a_torch_for_a_newer_cuda_than_the_driver_runs_cannot_use_the_gpu() -> None:
    torch = Torch("2.13.0", "13.0")
    assert torch.unfit_for(R580) is None
    assert torch.unfit_for(R550) == (
        "torch 2.13.0, which was built for CUDA 13.0, and this machine's driver 550.144.03 runs "
        "CUDA 12.4 at most"
    )


def test_an_environment_whose_torch_cannot_use_the_gpu_is_refused_with_the_command_that_mends_it(
    driven: SetDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = EnvironmentManager(tmp_path, tmp_path)
    driven(R580)
    python = str(made(tmp_path, mine()) / "bin" / "python")
    found = obstacle(mine(), manager, "cuda")
    assert str(found) == (
        f"environment mine ({python}) has torch 2.13.0+cpu, which was built without CUDA; try "
        "runner env remove mine && runner env create mine"
    )
    own = obstacle(mine(python=python), manager, "cuda")
    assert own is not None and "or environment.mine.python=null" in own.remedy
    assert obstacle(mine(), manager, "cpu") is None
    monkeypatch.setenv("UV_TORCH_BACKEND", "cpu")
    made(tmp_path, mine())
    forced = obstacle(mine(), manager, "cuda")
    assert forced is not None
    assert forced.remedy == "runner env create mine without the UV_TORCH_BACKEND that decided it"


def test_a_driver_too_old_for_the_wheels_is_told_before_anything_is_downloaded(
    driven: SetDriver, tmp_path: Path, composed: Compose, gpu: Machine,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    said = (
        "environment vllm_cuda is compiled for CUDA 13, which needs NVIDIA driver 580.65.06 or "
        "newer; this machine has driver 550.144.03, which runs CUDA 12.4 at most"
    )
    driven(R550)
    command = [
        "engine=vllm",
        "model=smollm2_135m",
        "stages=[eval]",
        f"store.environments={tmp_path}",
    ]
    config = composed(*command)
    (verdict,) = illegal_ones(check(config, gather_facts(config, gpu, command)))
    assert verdict.reason == said
    assert verdict.nearest is not None
    assert verdict.nearest.startswith("updating the driver, or environment.vllm_cuda.python=PATH")
    environments = held(tmp_path, config.environment["vllm_cuda"])
    with pytest.raises(StageError, match=re.escape(said)):
        cli._create(environments, ["vllm_cuda"])
    monkeypatch.setattr("runner.planning.hardware.detect.detect", lambda: gpu)
    assert cli._create(environments, []) == 0
    assert f"skipped: {said}" in capsys.readouterr().err
    driven(R580)
    assert unmet(environments.known["vllm_cuda"]) is None


def test_an_environment_that_got_a_torch_for_cpus_beside_a_gpu_is_not_kept(
    driven: SetDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last index that uv looks into for ``auto`` is the one for CPUs."""
    driven(R580)
    monkeypatch.setattr("runner.environments.create._call", lambda *_: None)
    monkeypatch.setattr("runner.environments.create.torch_of", lambda _: Torch("2.13.0+cpu", None))
    place = tmp_path / "new"
    place.mkdir()
    with pytest.raises(StageError, match=r"no torch for CUDA .* only 2\.13\.0\+cpu .*cuda13"):
        create(mine(), "digest", place, tmp_path / "log", lambda _: None)
    assert not (place / READY_FILE).exists()
    shutil.rmtree(place)


def test_what_the_driver_says_of_itself_is_read(stub_driver: StubDriver) -> None:
    stub_driver(cards(H100), STUB_DRIVER="570.26", STUB_CUDA="12080", CUDA_VISIBLE_DEVICES="")
    assert installed_driver() == Driver("570.26", "12.8"), "hidden GPUs need environments too"
    installed_driver.cache_clear()
    stub_driver("")
    assert installed_driver() is None, "a driver without a GPU"
    installed_driver.cache_clear()
    stub_driver(None)
    assert installed_driver() is None


def test_nvidias_table_says_which_cuda_a_driver_runs() -> None:
    versions = ("580.65.06", "579.99", "525.60.13", "525.60.2", "450.80.02", "390.1", "610.1")
    found = [driver_of(version).cuda_major for version in versions]
    assert found == [13, 12, 12, 11, 11, 0, 13]


def test_a_check_beside_a_gpu_says_whether_an_environment_computes_on_it(
    driven: SetDriver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:

    def said(environment: Environment) -> tuple[int, str]:
        return cli._check(held(tmp_path, environment), []), capsys.readouterr().out

    only = mine(self_test=["torch"])
    made(tmp_path, only)
    assert said(only) == (0, "mine: ok\n")
    driven(R580)
    made(tmp_path, only)
    why = "torch 2.13.0+cpu was built without CUDA"
    assert said(only) == (1, f"mine: imports, but does not compute on this machine's GPU: {why}\n")
    aside = mine(self_test=["torch"], torch_backend="cpu")
    made(tmp_path, aside)
    assert said(aside) == (0, "mine: ok\n"), "it is not asked to"
    monkeypatch.setattr(cli, "gpu_test", lambda *_: ("NVIDIA L4", None))
    assert said(only) == (0, "mine: ok (computes on NVIDIA L4)\n")


def test_a_compiler_of_a_newer_cuda_than_the_driver_runs_is_told_before_it_compiles(
    driven: SetDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiling = mine(name="llama", build_tools={"nvcc": "nvidia-cuda-toolkit"})
    monkeypatch.setattr("runner.environments.needs.shutil.which", lambda tool: tool)
    monkeypatch.setattr("runner.environments.needs.compiled_for", lambda _: "13.0")
    driven(R550)
    assert str(unmet(compiling)) == (
        "environment llama would be compiled by nvcc of CUDA 13.0, and this machine's driver "
        "550.144.03 runs CUDA 12.4 at most; try an nvcc of CUDA 12 first on the PATH, or updating "
        "the driver"
    )
    driven(R580)
    assert unmet(compiling) is None


def test_the_cuda_compiler_is_asked_for_its_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.8, V12.8.93'\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _release.cache_clear()
    assert compiled_for(mine(build_tools={"nvcc": "x"})) == "12.8"
    assert compiled_for(mine(build_tools={"c++": "x"})) is None
    _release.cache_clear()


def test_a_backend_that_needs_no_gpu_runs_in_the_environment_for_cpus_beside_one(
    inputs: MakeInputs, gpu: Machine
) -> None:
    beside = inputs("method=gguf", "model=tiny", "stages=[quantize]", machine=gpu)
    seen = beside.session.look(beside.config, "sweep")  # type: ignore[attr-defined]
    assert seen.unknown == "environment llama_cpp must be built first"
    with pytest.raises(RunnerError, match="environment llama_cpp_cuda must be built first"):
        beside.environment("llama_cpp")
    nowhere = ReadyEnvironment("nowhere", "/nowhere", {})
    tasks = [beside.task(HARDWARE, None, nowhere, device=device) for device in (None, "cpu")]
    assert [task.gpus for task in tasks] == [gpu.gpus, ()], "nor does its worker find one"
    assert (beside.compute.device, beside.on("cpu").device, beside.on("cpu").gpus) == (
        "cuda", "cpu", ()
    )  # fmt: skip


def test_a_run_on_the_cpu_beside_a_gpu_makes_no_environment_with_cuda(
    driven: SetDriver, inputs: MakeInputs, gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after ``make TORCH_BACKEND=cpu``: what is there is enough for it."""
    driven(R580)
    monkeypatch.setattr("runner.environments.manager.computes_on_gpus", lambda _: True)
    where = "runner.environments.manager.torch_of"
    monkeypatch.setattr(where, {sys.executable: Torch("2.13.0+cpu", None)}.get)
    on_cpu = inputs("model=tiny", "engine.device=cpu", machine=gpu)
    assert on_cpu.environment("transformers").is_control
    with pytest.raises(RunnerError, match="environment default must be built first"):
        inputs("model=tiny", machine=gpu).environment("transformers")
