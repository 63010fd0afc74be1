"""The files around the code: one version, one set of checks, nothing that does not parse."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


def test_the_citation_is_of_this_version() -> None:
    citation = read("CITATION.cff")
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_the_changelog_knows_this_version_and_what_comes_next() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1] == f"{PROJECT['version']} - {read('CITATION.cff')['date-released']}"
    kinds = re.findall(r"^### (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_hooks_check_what_make_lint_checks() -> None:
    lint = re.search(
        r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    assert lint is not None
    checks = re.findall(r"\$\(BIN\)/(ruff \w+|mypy)", lint[1])
    hooks = [hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    entries = [re.sub(r"\.venv/bin/(ruff \w+|mypy).*", r"\1", hook["entry"]) for hook in hooks]
    assert entries == checks


def test_the_workflow_runs_what_ci_runs() -> None:
    steps = read(".github/workflows/ci.yml")["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert "make test" in (ROOT / ".ci/run").read_text("utf-8")


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_an_issue_template_asks_what_is_needed(name: str) -> None:
    template = read(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= set(template)
    fields = [field for field in template["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_every_tool_of_a_developer_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text("utf-8").lower().splitlines()
    names = {pin.split("==")[0] for pin in pins}
    wanted = {re.split(r"[<>=;\[ ]", each)[0] for each in PROJECT["optional-dependencies"]["dev"]}
    assert {each.lower() for each in wanted} <= names


def test_the_table_of_tests_names_every_file() -> None:
    """A name in CONTRIBUTING may end in a star."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    words = re.findall(r"`(test_\w+)(\*?)`", text)
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    named = {word for word, star in words if not star}
    beginnings = tuple(word for word, star in words if star)
    assert {file for file in files - named if not file.startswith(beginnings)} == set()
    assert named - files == set()


def sweeps_named_in(path: Path) -> set[str]:
    """Sweep names that a test file writes out; of an f-string, what is before its first field."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Constant(value=str(text)) if text.startswith("sweep="):
                named.add(text.removeprefix("sweep="))
            case ast.keyword(arg="sweep", value=ast.Constant(value=str(text))):
                named.add(text)
    return named - {""}


def test_no_two_files_of_integration_tests_name_a_sweep_alike() -> None:
    """One store is shared by the files that a test process happens to get."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests" / "integration").glob("*.py"):
        for name in sweeps_named_in(path):
            found.setdefault(name, set()).add(path.name)
    assert len(found) > 100
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_no_signed_figure_reads_minus_nothing() -> None:
    """``z`` keeps a small loss from being printed as ``-0.000``."""
    signed = re.compile(r":\+\.\d+f")
    files = sorted((ROOT / "runner").rglob("*.py"))
    assert [str(path) for path in files if signed.search(path.read_text("utf-8"))] == []
