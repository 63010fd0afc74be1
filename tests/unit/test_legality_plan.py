"""Mistakes that a plan invites: each is told once, with what to do, and of nothing else."""

import pytest

from runner.config.schema.kv_cache import KvCache, KvFormat
from runner.config.schema.plan import Plan
from runner.planning.devices import read_device
from runner.planning.formats import find_format
from runner.planning.model_shape import Shape
from runner.validation.common_mistakes import mistakes_of_plan
from runner.validation.verdict import Severity

pytestmark = pytest.mark.unit

UNPACKED = ("4-bit weights are unpacked and multiplied in 16 bits", None)
OUTLIERS = ("w8a8 rounds activations: plain rounding", "method=smoothquant or method=gptq")


@pytest.mark.parametrize(
    ("formats", "devices", "expected"),
    [
        ("bf16 w8a16-per_channel", "a100_80_sxm", []),
        ("w4a16-g128", "a100_80_sxm", [UNPACKED]),
        ("w4a16-g128 nf4 mxfp4", "a100_80_sxm", [UNPACKED]),
        # Its outliers are apart, so activations of 8 bits do no harm.
        ("llm_int8", "l4", []),
        ("w8a8 w4a16-g128", "l4", [OUTLIERS, UNPACKED]),
        (
            "fp8_e4m3",
            "a100_80_sxm l4 t4",
            [("a100_80_sxm, t4 have no matrix units for fp8_e4m3", None)],
        ),
        ("fp8_e4m3", "l4 h100_sxm", []),
        # Nobody serves it there.
        ("nvfp4_a4", "mi300x", []),
        # Of 16 bits at least, activations do not matter.
        ("bf16 w8a16-per_channel", "t4", []),
        (
            "w3a16-g64 w2a16-g64 w4a16-g64",
            "l4",
            [
                UNPACKED,
                (
                    "uniform w3a16-g64, w2a16-g64: below 4 bits",
                    "bits=w4a16, or a gguf type, which mixes widths",
                ),
            ],
        ),
    ],
)
def test_mistakes_of_formats_and_devices(
    formats: str,
    devices: str,
    expected: list[tuple[str, str | None]],
    shapes: dict[str, Shape],
) -> None:
    found = list(
        mistakes_of_plan(
            shapes["llama31_8b"],
            [find_format(label) for label in formats.split()],
            [read_device(name) for name in devices.split()],
            Plan(),
        )
    )
    assert all(one.severity is Severity.warning for one in found)
    assert [one.nearest for one in found] == [nearest for _, nearest in expected]
    for one, (reason, _) in zip(found, expected, strict=True):
        assert one.reason.startswith(reason)


def test_a_cache_larger_than_the_smallest_format_s_weights(shapes: dict[str, Shape]) -> None:
    """32 layers x 8 heads x 128 wide x 2 x 2 bytes: 131,072 bytes a token."""
    shape = shapes["llama31_8b"]
    formats = [find_format(label) for label in ("bf16", "w8a16-per_channel")]
    stored = formats[1].stored_bytes(shape)
    most = int(stored // 131_072)

    def told(tokens: int, batch: int = 1, kind: str = "auto", of: int = 2) -> list[str]:
        plan, held = Plan(concurrency=batch, context_length=tokens), KvFormat(kind)
        found = mistakes_of_plan(shape, formats[:of], [], plan, KvCache(held, held))
        return [str(one) for one in found]

    assert told(most) == []
    (found,) = told(most + 1)
    assert found.startswith(f"at batch 1 x {most + 1} tokens the KV cache (")
    assert found.endswith("; try kv_cache=fp8_e4m3")
    assert told(most // 4, batch=4) == []
    assert len(told(most // 4 + 1, batch=4)) == 1
    assert told(2 * most, kind="fp8_e4m3") == []
    assert told(10 * most, of=1) == [], "nothing of it is quantized"
    assert list(mistakes_of_plan(shape, [], [], Plan(context_length=10 * most))) == []
