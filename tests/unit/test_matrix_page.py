"""docs/backends.md's matrix has a row for everything that a method declares."""

import re

import pytest

from docs.matrix import GPU_ONLY, MARKS, PATH, REFUSED, RUNS, engines
from runner.config import options
from runner.methods import find_method, quantizing_methods
from runner.util.extensions import Kind, names

pytestmark = pytest.mark.unit

AGAIN = "run: python -m docs.matrix"


def _section() -> str:
    return PATH.read_text("utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]


def _rows() -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")]
            for line in _section().splitlines() if line.startswith("| ")]  # fmt: skip


def test_every_backend_of_every_method_is_there_with_its_bits() -> None:
    labels = set(options.option_files("bits"))
    shown = {(row[0], row[1], bits) for row in _rows()[1:] for bits in row[3].split(", ")}
    declared = {
        (method, backend, bits)
        for method in set(names(Kind.method, builtin=True)) & set(quantizing_methods())
        for backend, can in find_method(method).backends.items()
        for bits in can.bits
        if bits in labels
    }
    assert declared <= shown, AGAIN
    assert {(method, backend) for method, backend, _ in shown} == {
        (method, backend) for method, backend, _ in declared
    }, AGAIN


def test_a_cell_says_what_happens_and_a_refusal_has_its_reason() -> None:
    head, *rows = _rows()
    assert head[5:] == engines(), AGAIN
    cells = [cell for row in rows for cell in row[5:]]
    assert all(re.fullmatch(rf"{RUNS}|({GPU_ONLY}|{REFUSED}) \[\d+\]", cell) for cell in cells)
    named = {int(number) for cell in cells for number in re.findall(r"\[(\d+)\]", cell)}
    listed = {int(number) for number in re.findall(r"^(\d+)\. ", _section(), re.M)}
    assert named == listed
