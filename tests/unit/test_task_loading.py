"""Tasks of the harness say which package they lack, and scores by length are kept apart."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from runner.errors import StageError
from runner.evaluation.lm_eval import loading
from runner.evaluation.lm_eval.scores import scores_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("module", "named"),
    [
        ("langdetect", "'lm-eval[ifeval]=="),
        ("wonderwords.random_word", "'lm-eval[ruler]=="),
        ("bs4", "'beautifulsoup4'"),
    ],
)
def test_a_package_that_is_missing_is_named_with_how_to_install_it(module: str, named: str) -> None:
    cause = ModuleNotFoundError(f"No module named {module!r}", name=module)
    error = ImportError("please install it")
    error.__context__ = cause
    for raised in (cause, error):
        told = loading.explain("some_task", raised)
        assert told is not None
        assert told.startswith("task some_task needs package ")
        assert f"uv pip install --python {sys.executable} {named}" in told
    assert loading.explain("some_task", ConnectionError("no hub")) is None


def test_what_breaks_hydra_is_not_installed_beside_it() -> None:
    told = loading.explain("math", ModuleNotFoundError("", name="math_verify"))
    assert told is not None
    assert "environment.lm_eval.adopts_control=false" in told
    assert "--python" not in told


def test_data_of_a_package_are_named() -> None:
    error = LookupError("\n***\n  Resource \x1b[93mpunkt_tab\x1b[0m not found.\n  Please use")
    told = loading.explain("ruler_vt", error)
    assert told is not None
    assert told.endswith("-m nltk.downloader punkt_tab")


def test_data_that_answers_are_scored_with_are_there_before_any_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(name: str) -> None:
        if name not in there:
            raise LookupError(name)

    # NLTK takes a second to import; a task that needs it has.
    there: set[str] = set()
    nltk, task = ModuleType("nltk"), ModuleType("a_task")
    monkeypatch.setattr(nltk, "data", SimpleNamespace(find=find), raising=False)
    monkeypatch.setitem(sys.modules, "nltk", nltk)
    monkeypatch.setattr(task, "download_nltk_resources", print, raising=False)
    monkeypatch.setitem(sys.modules, "a_task", task)
    with pytest.raises(StageError, match=r"ifeval needs NLTK's data punkt_tab, .*downloader punkt"):
        loading.require_helpers("ifeval")
    there.add("tokenizers/punkt_tab")
    loading.require_helpers("ifeval")


def test_formulas_are_not_compared_by_a_parser_that_cannot_read_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "sympy.parsing.latex", raising=False)
    loading.require_helpers("any")
    monkeypatch.setitem(sys.modules, "sympy.parsing.latex", ModuleType("latex"))
    with pytest.raises(StageError, match=r"antlr4-python3-runtime must be 4\.11, not 4\.9"):
        loading.require_helpers("math")
    monkeypatch.setattr(loading, "_version", lambda _: "4.11.0")
    loading.require_helpers("math")


def found(values: dict[str, float]) -> dict[str, Any]:
    """What the harness returns for one task."""
    return {
        "results": {"vt": {f"{metric},none": value for metric, value in values.items()}},
        "higher_is_better": {}, "n-samples": {}, "n-shot": {}, "versions": {}, "configs": {},
    }  # fmt: skip


def answered(*scores: tuple[str, float]) -> list[dict[str, Any]]:
    """Items of two lengths, as RULER's tasks score them: -1 under the length that is not theirs."""
    return [
        {
            "task": "vt", "item": number, "filter": "none", "answer": value, "item_sha256": number,
            "prompt_sha256": number, "scores": {"4096": -1.0, "8192": -1.0, length: value},
        }
        for number, (length, value) in enumerate(scores)
    ]  # fmt: skip


def test_items_of_one_length_are_compared_without_those_of_others() -> None:
    old = answered(("4096", 1.0), ("4096", 1.0), ("8192", 0.2), ("8192", 0.6))
    new = answered(("4096", 0.0), ("4096", 1.0), ("8192", 0.4), ("8192", 0.6))
    lengths = {"4096": 1.0, "8192": 0.4, "16384": -1.0}
    before = scores_of("vt", found(lengths), True, old, None)
    after = scores_of("vt", found({**lengths, "4096": 0.5, "8192": 0.5}), True, new, (before, old))
    short, long = after.scores
    assert after.main is long, "the longest"
    assert short.change is not None
    assert short.change.mcnemar is not None
    assert (short.change.mcnemar.lost, short.change.delta) == (1, -0.5)
    assert long.change is not None
    assert long.change.mcnemar is None, "shares of an item are neither right nor wrong"
    assert long.change.recovery_percent == pytest.approx(125)
    assert long.change.delta_interval is not None
    assert long.change.delta_interval.estimate == pytest.approx(0.1)
