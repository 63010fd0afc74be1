"""Engines, methods and stages are asked what they can do, nowhere for their names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import runner
from runner.engines import engine_names, find_engine, names_with, reader_of, traits_of
from runner.engines.base import CheckpointFacts
from runner.engines.traits import Traits
from runner.errors import UsageError
from runner.methods import find_method, method_names

pytestmark = pytest.mark.unit

PACKAGE = Path(runner.__file__).parent


def compared(source: str, names: set[str]) -> Iterator[int]:
    """Lines on which something is compared with, or looked up by, one of these names."""
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            parts = list(node.keys)
        elif isinstance(node, ast.Call):
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Subscript):
            parts = [node.slice]
        for part in parts:
            inner = part.elts if isinstance(part, ast.Tuple | ast.List | ast.Set) else [part]
            for one in inner:
                if isinstance(one, ast.Constant) and one.value in names:
                    yield node.lineno


def others(folder: str) -> Iterator[Path]:
    """Modules outside a folder."""
    patches = PACKAGE / "environments" / "patches"
    for path in sorted(PACKAGE.rglob("*.py")):
        if PACKAGE / folder not in path.parents and patches not in path.parents:
            yield path


def test_no_engine_is_told_by_its_name() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in others("engines")
        # Of lm-evaluation-harness, of vLLM's own settings and of distributions.
        if path.name not in ("vllm_settings.py", "command.py")
        for line in compared(path.read_text("utf-8"), set(engine_names()))
    ]
    assert not found


def test_no_method_is_told_by_its_name() -> None:
    # Formats, backends and devices' number types share names with methods: what counts is whose
    # name is compared.
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in others("methods")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Compare)
        and any(
            ast.unparse(part).endswith("method.name") for part in [node.left, *node.comparators]
        )
    ]
    assert not found


def test_a_record_of_an_engine_that_is_gone_is_one_of_a_plain_engine() -> None:
    assert traits_of("of_the_past") == Traits()


def test_every_format_has_one_engine_that_reads_it_best() -> None:
    formats = {
        able.checkpoint_format
        for method in method_names()
        for able in find_method(method).backends.values()
    }
    for one in sorted(formats):
        claiming = names_with(lambda traits, one=one: one in traits.reads_best)
        assert len(claiming) == 1
        facts = CheckpointFacts(one, None, None, None, "cpu")
        assert find_engine(reader_of(one).name).refusal(facts) is None


def test_a_format_that_no_engine_reads_is_said() -> None:
    """A plug-in's method may write one."""
    with pytest.raises(UsageError, match="no engine says that it reads ternary checkpoints best"):
        reader_of("ternary")
