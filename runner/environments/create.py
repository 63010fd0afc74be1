"""Creates a virtual environment with uv: shared cache, hard links, one download per package."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path

from packaging.specifiers import SpecifierSet

from runner.config.options import file_beside
from runner.config.schema.environment import Environment
from runner.environments.cuda_compiler import compiled_for
from runner.environments.needs import unmet
from runner.environments.ready import installed_versions
from runner.environments.torch_build import computes_on_gpus, torch_build, uv_choice
from runner.environments.torch_cuda import torch_of
from runner.errors import StageError
from runner.store.files import sha256_of_json, write_json_atomically
from runner.util.logs import BoundedLog, shown_lines
from runner.util.redact import redact_bytes
from runner.util.surroundings import ELSEWHERE, for_children, from_here

READY_FILE = "ready.json"
WORKER_REQUIREMENTS = ("filelock", "numpy", "omegaconf==2.3.1", "pydantic>=2")
"""What the runner itself imports in a worker."""

_NEVER = "sys_platform == 'never'"
_TOLD_LINES = 4
# Linux kills the installer when this process dies, so that nobody writes into a dead staging area.
_CHILD = (
    "import os, sys; from runner.util.processes import die_with_parent; die_with_parent(); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def create(
    environment: Environment, digest: str, directory: Path, log: Path, say: Callable[[str], None]
) -> None:
    """Fill ``directory``, which does not exist yet; it can be renamed afterwards.

    Args:
        environment: What to install.
        digest: Recorded in ``ready.json``, which is written last.
        directory: Where to.
        log: File that gets everything the installer prints.
        say: Called with short lines of progress.

    Raises:
        StageError: A build tool is missing, the driver too old, or a package cannot be had or
            built.
    """
    if obstacle := unmet(environment):
        raise StageError(str(obstacle))
    printed = BoundedLog(log, after_others=True)
    try:
        _fill(environment, digest, directory, printed, say)
    finally:
        printed.close()


def _fill(
    environment: Environment,
    digest: str,
    directory: Path,
    log: BoundedLog,
    say: Callable[[str], None],
) -> None:
    start = time.monotonic()
    uv = _uv()
    say("creating a virtual environment")
    _call(
        [uv, "venv", "--quiet", "--relocatable", "--python", _python(environment), str(directory)],
        environment, log, say,
    )  # fmt: skip
    wheels = [_built(text, environment, directory.parent, log, say) for text in environment.builds]
    python = directory / "bin" / "python"
    requirements = [*environment.requirements, *WORKER_REQUIREMENTS]
    _write_lines(directory / "requirements.txt", requirements)
    excluded = [f"{name} ; {_NEVER}" for name in environment.excludes]
    _write_lines(directory / "overrides.txt", excluded)
    torch, variables = uv_choice(environment)
    # No byte code yet: what is imported writes its own, a tenth of what compiling all would.
    _call(
        [uv, "pip", "install", "--python", str(python),
         "-r", str(directory / "requirements.txt"),
         "--override", str(directory / "overrides.txt"),
         *_constraints(environment),
         *(option for folder in wheels for option in ("--find-links", str(folder))),
         *_sources(), *torch],
        environment, log, say, variables,
    )  # fmt: skip
    installed_versions.cache_clear()
    build = torch_build(environment)
    torch_here = torch_of(str(python)) if computes_on_gpus(build) else None
    if torch_here is not None and torch_here.cuda is None:
        # The last resort of uv's automatic choice is one for CPUs.
        raise StageError(
            f"environment {environment.name} cannot be created: uv found no torch for CUDA that "
            f"this machine's driver runs, only {torch_here.version} (asked for: {build})"
        )
    write_json_atomically(
        directory / READY_FILE,
        {
            "name": environment.name,
            "digest": digest,
            "requirements": requirements,
            "seconds": time.monotonic() - start,
            "torch": build,
            "installed": installed_versions(str(python)),
        },
    )


def _built(
    text: str, environment: Environment, root: Path, log: BoundedLog, say: Callable[[str], None]
) -> Path:
    """Folder with the wheel of a source package, built now when it is not there."""
    settings = {"package": text, "python": sys.version, "variables": environment.build_variables}
    if release := compiled_for(environment):
        # It looks for the libraries of that release; other machines of a store may have another.
        settings["cuda"] = release
    place = root / ".wheels" / sha256_of_json(settings)[:12]
    if place.exists():
        return place
    beside = place.with_name(f"{place.name}-{uuid.uuid4().hex[:8]}")
    say(f"building {text} (minutes)")
    # pip's cache knows nothing of the variables that a wheel in it was built with.
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-input", "--no-cache-dir"]
    try:
        _call([*pip, "--wheel-dir", str(beside), text], environment, log, say)
        with contextlib.suppress(OSError):  # another environment may just have built it
            beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return place


def constraints_file(environment: Environment) -> Path | None:
    """Where the versions of indirect requirements are written down.

    Raises:
        StageError: The file that the environment names is not there.
    """
    if environment.constraints is None:
        return None
    if path := file_beside("environment", environment.constraints):
        return path
    raise StageError(
        f"environment {environment.name}: there is no conf/environment/{environment.constraints}"
    )


def _constraints(environment: Environment) -> list[str]:
    path = constraints_file(environment)
    return [] if path is None else ["--constraint", str(path)]


def _uv() -> str:
    """The uv that was installed with the runner, or the one on the path."""
    beside = Path(sysconfig.get_path("scripts")) / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise StageError("uv, which creates environments, is missing: pip install uv")
    return uv


def _python(environment: Environment) -> str:
    """This interpreter when the packages support it, else a description that uv understands."""
    if sys.version.split()[0] in SpecifierSet(environment.python_version):
        return sys.executable
    return environment.python_version


def _sources() -> list[str]:
    """Where packages come from. uv does not read pip's settings, so they are handed over."""
    options = []
    for link in os.environ.get("PIP_FIND_LINKS", "").split():
        options += ["--find-links", from_here(link)]
    if index := os.environ.get("PIP_INDEX_URL"):
        options += ["--index-url", index]
    for index in os.environ.get("PIP_EXTRA_INDEX_URL", "").split():
        options += ["--index-strategy", "unsafe-best-match", "--extra-index-url", index]
    return options


def _call(
    command: list[str],
    environment: Environment,
    log: BoundedLog,
    say: Callable[[str], None],
    variables: Mapping[str, str] | None = None,
) -> None:
    log.write(f"$ {json.dumps(command)}\n".encode())
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **for_children(), **environment.build_variables, **(variables or {})},
        cwd=ELSEWHERE,
    )
    assert isinstance(process.stdout, BufferedReader)
    try:
        while content := process.stdout.read1():
            log.write(content)
            if lines := shown_lines(redact_bytes(content)):
                say(lines[-1])
        code = process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    if code != 0:
        shown = " ".join(log.last_lines(_TOLD_LINES))
        raise StageError(
            f"environment {environment.name} cannot be created: {shown or f'uv ended with {code}'} "
            f"(full log: {log.path}; for a mirror, set PIP_INDEX_URL or PIP_FIND_LINKS)"
        )


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
