"""Why a task of the harness cannot be loaded, and what to do about it."""

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator

from runner.errors import StageError

_DISTRIBUTIONS = {"bs4": "beautifulsoup4", "sklearn": "scikit-learn", "fuzzywuzzy": "fuzzywuzzy"}
"""Distributions that are called otherwise than what is imported of them."""
_NAME = re.compile(r"^[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"extra == [\"']([^\"']+)[\"']")
_NLTK = re.compile(r"Resource .*?(\w+).*? not found")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_FETCHES, _SENTENCES = "download_nltk_resources", "punkt_tab"
"""What the harness calls the function of a task (IFEval, RULER) that fetches these data, and goes
on without them where it cannot."""
_PARSER, _PARSER_VERSION = "antlr4-python3-runtime", "4.11"
"""What sympy's ``parse_latex`` needs. With another version it raises ImportError, which tasks take
for a wrong answer."""


def explain(task: str, error: Exception) -> str | None:
    """A line about a package or a data set of a package that is missing; ``None``: it is not that.

    Args:
        task: Its name.
        error: What loading it raised.
    """
    for cause in _chain(error):
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            return _missing(task, cause.name.partition(".")[0])
        if isinstance(cause, LookupError) and (found := _NLTK.search(_plain(cause))):
            return _missing_data(task, found[1])
    return None


def require_helpers(task: str) -> None:
    """See that what a task that has been loaded scores answers with is there and right.

    Raises:
        StageError: It cuts answers into sentences, for which data are missing: it would fail once
            the model has answered. Or it compares formulas, which this interpreter cannot read:
            every answer that is not literally the right one would count as wrong.
    """
    _require_sentences(task)
    _require_parser(task)


def _require_sentences(task: str) -> None:
    nltk = sys.modules.get("nltk")
    needed = any(_FETCHES in getattr(one, "__dict__", ()) for one in [*sys.modules.values()])
    if nltk is None or not needed:
        return
    try:
        nltk.data.find(f"tokenizers/{_SENTENCES}")
    except LookupError:
        raise StageError(_missing_data(task, _SENTENCES)) from None


def _require_parser(task: str) -> None:
    if "sympy.parsing.latex" not in sys.modules:
        return
    installed = _version(_PARSER)
    if installed is None or not installed.startswith(_PARSER_VERSION):
        raise StageError(
            f"task {task} compares formulas, for which {_PARSER} must be {_PARSER_VERSION}, not "
            f"{installed or 'absent'}: {_remedy(_extra_of(_PARSER))}"
        )


def _missing_data(task: str, name: str) -> str:
    fetch = f"{sys.executable} -m nltk.downloader {name}"
    return f"task {task} needs NLTK's data {name}, which is not on this machine: {fetch}"


def _missing(task: str, module: str) -> str:
    distribution = _DISTRIBUTIONS.get(module, module.replace("_", "-"))
    extra = _extra_of(distribution)
    return (
        f"task {task} needs package {distribution}, which the harness's environment lacks: "
        f"{_remedy(extra, distribution)}"
    )


def _remedy(extra: str | None, distribution: str = "") -> str:
    """How to install what is missing, where that breaks nothing."""
    wanted = distribution
    if extra is not None:
        wanted = f"lm-eval[{extra}]=={importlib.metadata.version('lm-eval')}"
    install = f"uv pip install --python {sys.executable} '{wanted}'"
    if extra is None or not _breaks_hydra(extra):
        return install
    return (
        "it cannot be installed beside the runner itself, whose Hydra needs another "
        f"{_PARSER}: environment.lm_eval.adopts_control=false makes an environment for the "
        f"harness alone, into which '{wanted}' is then installed"
    )


def _breaks_hydra(extra: str) -> bool:
    if importlib.util.find_spec("hydra") is None:
        return False
    return any(name == _PARSER for name in _requirements(extra))


def _extra_of(distribution: str) -> str | None:
    """The harness's extra that installs a distribution."""
    extras = importlib.metadata.metadata("lm-eval").get_all("Provides-Extra") or []
    wanted = distribution.lower()
    return next((extra for extra in extras if wanted in _requirements(extra)), None)


def _requirements(extra: str) -> list[str]:
    """Distributions that an extra of the harness installs."""
    lines = importlib.metadata.requires("lm-eval") or []
    return [
        name[0].lower().replace("_", "-")
        for line in lines
        if (found := _EXTRA.search(line)) and found[1] == extra and (name := _NAME.match(line))
    ]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _plain(error: BaseException) -> str:
    return _ESCAPES.sub("", " ".join(str(error).split()))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
