"""What is known of a format's quality, from the table of published figures and what follows."""

import pytest

from runner.planning.formats import find_format
from runner.planning.model_shape import Shape
from runner.planning.published import Measure, table
from runner.planning.quality import MeasuredQuality, Quality, quality_of
from tests.unit.small_plan import SMALL

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def shapes() -> dict[str, Shape]:
    from runner.api import compose_config

    names = ("llama31_8b", "llama31_70b", "qwen25_05b")
    return {n: Shape(compose_config([f"model={n}"]).model.architecture) for n in names}


def of(label: str, shape: Shape, **told: str) -> Quality:
    return quality_of(find_format(label), shape, 97.0, None, **told)


@pytest.mark.parametrize(
    ("label", "model", "source", "risk", "said"),
    [
        ("w4a16-g128", "llama31_70b", "published", False, "keeps 99.5% and 97.4% of accuracy"),
        ("w8a16-per_channel", "llama31_8b", "published", False, "99.8% of accuracy on OpenLLM v1"),
        ("w3a16-g64", "llama31_8b", "published", True, "perplexity x1.141 on WikiText-2"),
        ("mxfp8", "llama31_70b", "published", False, "perplexity x1.008"),
        ("q2_k", "llama31_8b", "published", True, "mean KL divergence 0.445 nats"),
        ("nvfp4_a4", "llama31_8b", "published", True, "93.8% and 97.2%"),
        # Without activations in few bits it loses less; where even so it would be a risk, nobody
        # has said how much.
        ("nvfp4", "llama31_70b", "published", False, "no worse than nvfp4_a4: published"),
        ("nvfp4", "llama31_8b", "unknown", False, "no figure"),
        ("fp8_e4m3_a16", "llama31_8b", "published", False, "no worse than fp8_e4m3"),
        # Integers: of more bits no worse, of fewer no better, of whole channels no better.
        ("w6a16-g128", "llama31_70b", "published", False, "no worse than w4a16-g128"),
        ("w2a16-g64", "llama31_70b", "published", True, "no better than w3a16-g64"),
        ("w2a16-per_channel", "llama31_70b", "published", True, "no better than w3a16-g128"),
        ("w4a16-per_channel", "llama31_8b", "published", True, "no better than w4a16-g128"),
        ("w4a16-per_channel", "llama31_70b", "unknown", False, "no figure"),
        ("w6a16-g128", "llama31_8b", "unknown", False, "no figure"),
        ("nf4", "llama31_8b", "unknown", False, "no figure"),
        # Small models lose more, and the figures of larger ones say so.
        ("w8a16-g128", "qwen25_05b", "published", True, "94.8%"),
        ("w8a8", "qwen25_05b", "published", False, "16 times as large, and small ones lose more"),
    ],
)
def test_what_is_known(
    label: str, model: str, source: str, risk: bool, said: str, shapes: dict[str, Shape]
) -> None:
    found = of(label, shapes[model])
    assert (found.source, found.risk) == (source, risk)
    assert said in found.text


def test_what_a_model_is_published_in_costs_nothing() -> None:
    shape = Shape(SMALL)
    assert of("mxfp4-experts", shape, published_as="mxfp4-experts") == Quality(
        "as the model is published", "exact", False
    )
    assert of("mxfp4-experts", shape).source == "unknown"
    # Nobody has rounded it once more.
    again = of("w4a16-g128", shape, published_as="mxfp4-experts")
    assert again.source == "unknown" and "published as mxfp4-experts" in again.text
    assert of("bf16", shape, published_as="mxfp4-experts").source == "exact"
    assert of("w4a16-g128", shape, published_as="fp8_block").source == "published"
    measured = MeasuredQuality("mine", 1.2, 1.1, 1.3)
    own = quality_of(find_format("mxfp4-experts"), shape, 97.0, measured, "mxfp4-experts")
    assert own.source == "exact"


def test_every_figure_has_a_source_and_belongs_to_a_format() -> None:
    labels = {"w4a16-g128", "w8a16-g128", "w3a16-g128"}
    for row in table():
        names = [row.format, *(row.values if row.measure is Measure.no_worse_than else ())]
        for name in names:
            assert find_format(name if f"{name}-g128" not in labels else f"{name}-g128")
        if row.measure is not Measure.no_worse_than:
            assert row.address.startswith("https://") and row.model and row.parameters > 1e8
            assert all(float(value) for value in row.values)
