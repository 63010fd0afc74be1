"""What fields take besides their types."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from runner.config.bounds import bounded, faults
from runner.config.schema.root import Config
from runner.errors import UsageError

OUTSIDE = [
    ("calibration.skip_tokens=-1", "is less than 0", "calibration.skip_tokens=0"),
    (
        "calibration.samples=10000000000",
        "is more than 1000000000",
        "calibration.samples=1000000000",
    ),
    ("method=gptq method.damp_percent=1.5", "is more than 0.999", "method.damp_percent=0.999"),
    ("method=gptq method.damp_percent=0", "is not above 0", "method.damp_percent=0.01"),
    ("method=gptq method.block_size=0", "is less than 1", "method.block_size=1"),
    ("method=llm_int8 method.threshold=-1", "is less than 0", "method.threshold=0"),
    ("method=smoothquant method.strength=2", "is more than 1", "method.strength=1"),
    ("method.keep_most_sensitive=-1", "is less than 0", "method.keep_most_sensitive=0"),
    ("eval.context_length=1", "one token has none before it", "eval.context_length=2"),
    ("eval.windows=1", "one gives no interval", "eval.windows=2"),
    ("eval.protocols=[]", "it needs at least one entry", ""),
    ("store.root=", "store.root is empty: name a folder", ""),
    ("store.environments=''", "store.environments is empty: name a folder", ""),
    ("tracker.directory=", "tracker.directory is empty: name a folder", ""),
    ("bench.batch_sizes=[]", "it needs at least one entry", ""),
    ("bench.batch_sizes=[4,0]", "bench.batch_sizes=0 is less than 1", ""),
    ("bench.new_tokens=1", "one token has no inter-token latency", "bench.new_tokens=2"),
    ("bench.repetitions=0", "is less than 1", "bench.repetitions=1"),
    ("engine.threads=0", "is less than 1", "engine.threads=1"),
    ("sensitivity.bits=[]", "it needs at least one entry", ""),
    ("sensitivity.windows=1", "one gives no interval", "sensitivity.windows=2"),
    ("serving.concurrencies=[0]", "is less than 1", ""),
    ("serving.slo.request_latency_seconds=0", "is not above 0", ""),
    ("plan.memory_utilization=1.5", "is more than 1", "plan.memory_utilization=1"),
    ("gate.min_recovery=99", "is more than 1", "gate.min_recovery=99%"),
    ("serving.min_attainment=101", "is more than 1", "serving.min_attainment=1"),
    ("plan.latency_seconds=nan", "is not a finite number", ""),
    ("plan.peak_factor=inf", "is not a finite number", "plan.peak_factor=3.0"),
    ("plan.tensor_parallel=[0]", "is less than 1", ""),
    ("hardware=h100_sxm hardware.peak_teraflops.bf16=0", "peak_teraflops.bf16=0", ""),
    ("tasks=packaged tasks.limit=0", "is not above 0", ""),
    ("tasks=packaged tasks.num_fewshot=-1", "is less than 0", "tasks.num_fewshot=0"),
    ("tasks=packaged +tasks.fewshot.facts=-1", "tasks.fewshot.facts=-1 is less than 0", ""),
    ("+calibration.sources=[{text:bible,weight:-1}]", "calibration.sources[0].weight=-1", ""),
]


@pytest.mark.parametrize(("overrides", "reason", "nearest"), OUTSIDE)
def test_a_value_outside_a_fields_bounds_is_refused(
    overrides: str, reason: str, nearest: str, composed: Callable[..., Config]
) -> None:
    with pytest.raises(UsageError) as refused:
        composed(*overrides.split())
    assert reason in str(refused.value)
    assert f"try {nearest}" in str(refused.value) or not nearest


@dataclass
class _New:
    """A section that nobody told any bounds."""

    count: int = 1
    share: float = 0.5
    name: str = "mine"
    notes: str = bounded("", prose=True)
    numbers: list[int] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (_New(count=-1), "count=-1 is less than 0; try new.count=0"),
        (_New(count=10**5000), "count=a huge number is more than 1000000000"),
        (_New(share=float("nan")), "share=nan is not a finite number"),
        (_New(name="\x1b[31mred"), r"name='\x1b[31mred' contains control characters"),
        (_New(name="a\nb"), r"name='a\nb' has several lines"),
        (_New(name="\udc80"), "is not valid UTF-8"),
        (_New(name="a" * 256), "has a part of more than 255 bytes"),
        (_New(name="/".join("a" * 5000)), "is too long: it has 9999 characters"),
        (_New(notes="a\0b"), "contains control characters"),
        (_New(numbers=[0, -1]), "numbers=-1 is less than 0"),
        (_New(numbers=[0] * 10_001), "has 10001 entries; at most 10000 are allowed"),
        (_New(words={"a\nb": ""}), r"the name 'a\nb' in new.words has several lines"),
        (_New(words={"a": "\x07"}), "words.a='\\x07' contains control characters"),
    ],
)
def test_a_new_field_is_guarded_on_its_first_day(new: _New, said: str) -> None:
    (fault,) = faults(new, "new.")
    assert said in fault
    assert len(fault) < 200
    assert fault.isprintable()


def test_what_files_and_people_are_called_is_taken() -> None:
    new = _New(
        name="/data/Modèle (été), 模型 [v2] = $x 'q'\"/👩\u200d🔬", notes="two\nlines\tof text"
    )
    assert not [*faults(new)]
    assert not [*faults(_New(notes="long " * 1000, words={"PATH": "/a:/b"}))]
