"""What is refused or warned about in how quality is to be measured."""

from collections.abc import Callable

import pytest

from runner.config.schema.engine import Dtype
from runner.config.schema.eval import Bos, EvalDtype, PerplexityProtocol
from runner.config.schema.root import Config, StageName
from runner.pipeline.facts import gather_facts
from runner.planning.arithmetic import Arithmetic
from runner.planning.hardware.detect import Machine
from runner.validation.check import check
from runner.validation.verdict import Severity, Verdict
from tests.unit.judging import judge_changed

pytestmark = pytest.mark.unit

Compose = Callable[..., Config]
MEASURE = "stages=[eval] method=none bits=bf16"


def judge(composed: Compose, machine: Machine, overrides: str) -> list[Verdict]:
    config = composed(*overrides.split())
    return check(config, gather_facts(config, machine, overrides.split()))


@pytest.mark.parametrize(
    ("overrides", "reason", "nearest"),
    [
        (
            "eval.protocols=[lm_eval,gptq,lm_eval]",
            "names a protocol twice",
            "eval.protocols=[lm_eval,gptq]",
        ),
        (
            "eval=llama_perplexity eval.context_length=2",
            "less than half",
            "eval.context_length=512",
        ),
        (
            "engine=llama_cpp engine.context_length=256",
            "eval.context_length=512 does not fit engine.context_length=256",
            "eval.context_length=256",
        ),
        (
            "engine=vllm engine.max_model_len=512 eval.protocols=[lm_eval]",
            "does not fit engine.max_model_len=512",
            "eval.context_length=511",
        ),
        (
            "engine=vllm eval.context_length=8192 eval.protocols=[gptq,lm_eval]",
            "needs 8193 tokens, but the model's context is 8192",
            "eval.context_length=8191",
        ),
        (
            "engine=vllm eval.top_k=50000 eval.reference_max_bytes=1000000000000",
            "vocabulary has 49152 tokens",
            "eval.top_k=49152",
        ),
        (
            "eval.reference_max_bytes=1000000",
            "too small for one window",
            "eval.reference_max_bytes=18837504, or eval.divergence=false",
        ),
    ],
)
def test_illegal(
    overrides: str, reason: str, nearest: str, composed: Compose, cpu: Machine
) -> None:
    (found,) = judge(composed, cpu, f"{MEASURE} {overrides}")
    assert found.severity is Severity.illegal
    assert reason in found.reason
    assert found.nearest == nearest
    fixed = nearest.split(", or ", maxsplit=1)[0]
    assert judge(composed, cpu, f"{MEASURE} {overrides} {fixed}") == []


def test_a_bound_that_limits_what_is_compared_is_a_warning(composed: Compose, cpu: Machine) -> None:
    (found,) = judge(composed, cpu, f"{MEASURE} eval.reference_max_bytes=2400000")
    assert found.severity is Severity.warning
    # 511 tokens of 576 float32 a window.
    assert "holds 2 of 16 windows" in found.reason
    (codes,) = judge(composed, cpu, f"{MEASURE} engine=llama_cpp eval.windows=32")
    assert "holds 19 of 32 windows" in codes.reason


def test_without_divergence_nothing_is_kept(composed: Compose, cpu: Machine) -> None:
    overrides = f"{MEASURE} eval.divergence=false eval.reference_max_bytes=1"
    assert judge(composed, cpu, overrides) == []


def test_all_protocols_are_composed_in_order(composed: Compose) -> None:
    assert composed("eval=all_protocols").eval.protocols == list(PerplexityProtocol)
    assert composed().eval.protocols == [PerplexityProtocol.spread]
    published = composed("eval=perplexity_2048").eval
    assert (published.protocols, published.bos) == ([PerplexityProtocol.gptq], Bos.never)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ("stages=[eval] engine.dtype=bfloat16", True),
        ("stages=[eval] engine.dtype=bfloat16 eval.dtype=engine", False),
        ("stages=[eval,bench] engine.dtype=bfloat16", False),
        ("stages=[eval] engine.dtype=float32", False),
        ("stages=[eval] engine=llama_cpp engine.dtype=float16", False),
    ],
)
def test_a_type_of_speed_where_none_is_measured_is_told(
    overrides: str, told: bool, composed: Compose, cpu: Machine
) -> None:
    """Who sets engine.dtype and measures quality alone takes it for quality's type."""
    found = [str(verdict) for verdict in judge(composed, cpu, f"method=none bits=bf16 {overrides}")]
    assert (
        any("engine.dtype" in verdict and "has no effect" in verdict for verdict in found) == told
    )
    assert not told or any("eval.dtype=bfloat16" in verdict for verdict in found)


NARROW = "quality is measured in the engine's own type, not in float32: no room"


@pytest.mark.parametrize(
    ("base", "stages", "nearest"),
    [
        ("method=none bits=bf16", [StageName.eval], [None]),
        ("method=none bits=bf16", [StageName.bench], []),
        ("method=none bits=bf16", [StageName.tasks], []),
        ("method=none bits=bf16 tasks=packaged", [StageName.tasks], [None]),
        # Engines that read all that is evaluated in float32, where the chosen one does not.
        ("method=none bits=bf16 engine=llama_cpp", [StageName.eval], ["engine=hf or engine=vllm"]),
        ("engine=vllm", [StageName.quantize, StageName.eval], ["engine=hf"]),
        ("method=awq method.backend=autoawq", [StageName.quantize, StageName.eval], [None]),
    ],
)
def test_quality_in_a_narrow_type_is_told(
    base: str, stages: list[StageName], nearest: list[str | None], composed: Compose, cpu: Machine
) -> None:
    narrow = Arithmetic("bfloat16", "no room")
    found = judge_changed(composed, cpu, base, {"stages": stages}, arithmetic=narrow)
    assert [one.nearest for one in found] == nearest
    assert all(one.reason.startswith(NARROW) for one in found)
    assert all(one.severity is Severity.warning for one in found)


@pytest.mark.parametrize("dtype", [EvalDtype.float16, EvalDtype.float32])
@pytest.mark.parametrize(
    ("base", "refuses"),
    [
        ("engine=vllm", True),
        ("method=awq method.backend=autoawq", False),
        ("method=none bits=bf16 engine=llama_cpp", False),
        ("method=none bits=bf16 engine=vllm", False),
    ],
)
def test_a_type_that_the_engine_does_not_compute_in(
    base: str, refuses: bool, dtype: EvalDtype, composed: Compose, cpu: Machine
) -> None:
    stages = [StageName.quantize, StageName.eval]
    found = judge_changed(composed, cpu, base, {"stages": stages, "eval.dtype": dtype})
    refused = refuses and dtype is EvalDtype.float32
    assert [one.nearest for one in found] == ["eval.dtype=engine"] * refused
    for one in found:
        assert one.severity is Severity.illegal
        assert one.reason.startswith("eval.dtype=float32: vLLM computes with packed integer")


@pytest.mark.parametrize(
    ("stages", "engine", "told"),
    [
        ([StageName.eval], "hf", True),
        ([StageName.eval, StageName.bench], "hf", False),
        ([StageName.eval, StageName.serving], "vllm", False),
        ([StageName.eval], "llama_cpp", False),
        ([StageName.bench], "hf", False),
    ],
)
def test_the_type_of_speed_says_nothing_of_quality(
    stages: list[StageName], engine: str, told: bool, composed: Compose, cpu: Machine
) -> None:
    base = f"method=none bits=bf16 engine={engine}"
    changes = {"stages": stages, "engine.dtype": Dtype.float16}
    found = judge_changed(composed, cpu, base, changes)
    assert [(one.severity, one.nearest) for one in found] == [
        (Severity.warning, "eval.dtype=float16")
    ] * told
    same = {"stages": stages, "engine.dtype": Dtype.float32}
    assert judge_changed(composed, cpu, base, same) == []
