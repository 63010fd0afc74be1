"""Packages import in one direction, without cycles, and the control process imports no torch."""

from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]

LAYERS = (
    ("util", "errors"),
    ("config",),
    ("store",),
    ("environments",),
    ("data",),
    ("engines",),
    ("methods",),
    ("evaluation",),
    ("planning",),
    ("validation",),
    ("pipeline",),
    ("reporting",),
    ("release",),
    ("multirun",),
    ("api",),
    ("cli",),
    ("__main__",),
)
"""Each may import its own layer and those before it: the table of docs/architecture.md."""
RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


@pytest.fixture
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("runner", cache_dir=None)


def imports(graph: grimp.ImportGraph) -> Iterator[tuple[str, str]]:
    """Every module of the runner with each module of it that it imports."""
    for module in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            yield module, imported


def layer(module: str) -> str:
    """The package or module directly in ``runner``."""
    _, _, rest = module.partition(".")
    return rest.partition(".")[0]


def test_every_package_has_a_layer(graph: grimp.ImportGraph) -> None:
    assert {layer(module) for module in graph.modules} - {""} == set(RANKS)


def test_packages_import_in_one_direction(graph: grimp.ImportGraph) -> None:
    upward = [
        f"{module} -> {imported}"
        for module, imported in imports(graph)
        if layer(module) and layer(imported)
        if RANKS[layer(imported)] > RANKS[layer(module)]
    ]
    assert not upward, "\n".join(upward)


def test_there_is_no_cycle(graph: grimp.ImportGraph) -> None:
    """Nor within a package, of what is imported when a module is.

    A stage's declaration imports its work inside functions, as the control process is to stay
    light: there and back within one package is no cycle.
    """
    for module, imported in [*imports(graph)]:
        details = graph.get_import_details(importer=module, imported=imported)
        if all(_is_late(module, detail["line_number"]) for detail in details):
            graph.remove_import(importer=module, imported=imported)
    cycles = [
        " -> ".join((*chain, module))
        for module, imported in imports(graph)
        if (chain := graph.find_shortest_chain(imported, module)) is not None
    ]
    assert not cycles, "\n".join(sorted(cycles, key=len)[:20])


def _is_late(module: str, line: int) -> bool:
    """Whether an import stands inside a function, or is there for type checkers alone."""
    place = ROOT.joinpath(*module.split("."))
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return path.read_text("utf-8").splitlines()[line - 1].startswith(" ")


def test_documented_table_is_in_the_order_of_the_layers() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    table = page.split("|--|--|" if "|--|--|" in page else "|---|---|")[1].split("\n\n")[0]
    named = [cell.split("|")[1] for cell in table.splitlines() if cell.startswith("|")]
    places = {name: row for row, cell in enumerate(named) for name in RANKS if f"`{name}" in cell}
    order = sorted(places, key=lambda name: places[name])
    assert [RANKS[name] for name in order] == sorted(RANKS[name] for name in order)
    assert set(RANKS) - set(places) == {"__main__"}
