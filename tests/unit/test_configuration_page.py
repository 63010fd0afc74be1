"""The reference of config groups is made from the schema, and is current."""

import pytest

from docs.generate import PATH, field_docs, generate
from runner.config.schema.eval import Eval

pytestmark = pytest.mark.unit


def test_the_page_is_current() -> None:
    assert PATH.read_text("utf-8") == generate(), "run: python -m docs.generate"


def test_a_fields_docstring_is_found() -> None:
    found = field_docs(Eval)
    assert found["context_length"] == "Tokens in a window; part of the metric's name."
    assert "text" not in found, "it has none"


@pytest.mark.parametrize(
    "line",
    [
        "| `method.damp_percent` | number | `0.01` | Added to the Hessian's diagonal, as a",
        "| `bits.weight.num_bits` | integer | … |",
        "| `bits=nf4` |",
        "| `tracker.mode` | `offline`, `online` | `offline` |",
        "## text",
    ],
)
def test_what_a_reader_looks_up_is_there(line: str) -> None:
    assert line in generate()
