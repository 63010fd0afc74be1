"""What the package imports is what it declares: in pyproject.toml, and in the environments."""

import ast
import functools
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import runner
from runner.environments.create import WORKER_REQUIREMENTS
from runner.methods import find_method, method_names
from runner.util.paths import conf_dir

pytestmark = pytest.mark.unit

PACKAGE = Path(runner.__file__).parent
PROJECT = tomllib.loads((conf_dir().parent / "pyproject.toml").read_text())["project"]
ENVIRONMENTS = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((conf_dir() / "environment").glob("*.yaml"))
}
DISTRIBUTIONS = {
    "auto_gptq": "auto-gptq", "awq": "autoawq", "gptqmodel": "gptqmodel", "trackio": "trackio",
    "hqq": "hqq", "torchao": "torchao", "modelopt": "nvidia-modelopt",
    "mlflow": "mlflow-skinny",
    "llama_cpp": "llama-cpp-python", "vllm": "vllm", "ray": "ray",
}  # fmt: skip
"""Of modules that are not installed beside the tests."""
NO_DISTRIBUTIONS = {
    "conversion",  # llama.cpp's converter, which backends/gguf_converter.py fetches
    "hydra_plugins",  # a namespace, to which we add
}
NOT_IMPORTED = {
    "pip",  # `python -m pip download` of packages that are data
    "uv",  # a program
    "fastapi", "openai", "uvicorn",  # of `transformers serve`, which a row's command starts
    # What transformers, lm-eval and Hydra import for us where they are there:
    "accelerate", "bitsandbytes", "protobuf", "tiktoken", "hydra-joblib-launcher", "joblib", "ray",
}  # fmt: skip


@functools.cache
def installed() -> Mapping[str, list[str]]:
    """Distributions by the modules that they bring."""
    return packages_distributions()


def canonical(requirement: str) -> str:
    """The distribution's name in a requirement."""
    return re.split(r"[\[<>=!~;@ ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def imported(path: Path, *, at_import: bool = False) -> Iterator[str]:
    """Distributions that a file imports: anywhere, or as soon as it is imported itself."""
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and at_import:
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        todo += ast.iter_child_nodes(node)
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for top in {name.partition(".")[0] for name in names}:
            if top not in sys.stdlib_module_names and top not in {"runner", *NO_DISTRIBUTIONS}:
                yield canonical(DISTRIBUTIONS.get(top) or installed()[top][0])


def importers(*, at_import: bool = False) -> dict[str, set[str]]:
    """Files of the package by the distribution that they import."""
    every: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in imported(path, at_import=at_import):
            every[name].add(path.relative_to(PACKAGE).as_posix())
    return every


CONTROL = {canonical(one) for one in PROJECT["dependencies"]}
EXTRAS = {
    canonical(one)
    for extra, requirements in PROJECT["optional-dependencies"].items()
    if extra != "dev"
    for one in requirements
}


def test_what_is_imported_is_declared() -> None:
    declared = CONTROL | EXTRAS
    for environment in ENVIRONMENTS.values():
        declared |= {canonical(one) for one in environment["requirements"]}
    assert {k: v for k, v in importers().items() if k not in declared} == {}


def test_what_is_declared_is_imported() -> None:
    assert (CONTROL | EXTRAS) - importers().keys() - NOT_IMPORTED == set()


def test_what_modules_import_at_once_is_in_the_control_process() -> None:
    """All else is imported within functions, by workers and by launchers of those extras."""
    at_once = importers(at_import=True)
    beyond = {name: files for name, files in at_once.items() if name not in CONTROL}
    assert beyond == {}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_holds_what_its_worker_imports(name: str) -> None:
    environment = ENVIRONMENTS[name]
    lock = (conf_dir() / "environment" / environment["constraints"]).read_text()
    held = {canonical(one) for one in (*WORKER_REQUIREMENTS, *environment["requirements"])}
    held |= {canonical(one) for one in lock.splitlines()}
    held |= {"vllm"} & {one.removesuffix("-cpu") for one in held}  # its build for CPUs
    provided = set(environment["provides"])
    files = [one for one in PACKAGE.rglob("*.py") if one.stem in provided]
    for method in method_names():
        if provided.issuperset(find_method(method).backends):
            files += PACKAGE.glob(f"methods/{method}.py")
    missing = {
        f"{path.relative_to(PACKAGE)}: {one}"
        for path in files
        for one in imported(path)
        if one not in held
    }
    assert missing == set()


def test_what_is_not_hydras_public_interface_is_used_in_one_file() -> None:
    private = re.compile(r"hydra\._internal|OmegaConf\._|\._get_node\(|\._is_(none|missing)\(")
    users = {path.name for path in PACKAGE.rglob("*.py") if private.search(path.read_text())}
    assert users == {"hydra_internals.py"}
