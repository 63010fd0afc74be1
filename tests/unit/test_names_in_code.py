"""What an engine, a method or a tracker can do is asked of it, not concluded from its name."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.engines import engine_names
from runner.methods import find_method, method_names
from runner.reporting.tracking import tracker_names
from runner.util.paths import conf_dir

pytestmark = pytest.mark.unit

RUNNER = Path(__file__).parents[2] / "runner"
FAMILIES = {"llama", "gpt2", "opt", "falcon", "mixtral", "qwen2", "qwen3", "deepseek_v3", "phi3"}
OWN = {
    "engines/hf": {"gptq", "awq", "gguf", "bitsandbytes", "modelopt"},
    "engines/vllm": {"gptq", "awq", "modelopt", "vllm"},
    "engines/llama_cpp": {"gguf"},
    "methods/gptq.py": {"llm_compressor", "auto_gptq"},
    "methods/awq.py": {"autoawq"},
    "methods/backends/auto_round.py": {"gptq", "awq"},
    "methods/llm_int8.py": {"deepseek_v3"},
    "environments/patches": {"vllm"},
    "methods/backends": FAMILIES,
    "data": FAMILIES,
}
"""Where a name may be compared with: in the files of what has it, a method's of its backends, an
engine's of the formats of checkpoints that it reads, and of families where models are read."""
OTHER_MEANINGS = {
    ("data/models/gguf_config.py", "none"): "kind of rotary scaling",
    ("data/models/older_names.py", "default"): "kind of rotary scaling",
    ("data/texts/conversations.py", "default"): "name of a chat template",
    ("engines/hf/reading.py", "fp8"): "format of a checkpoint's files",
    ("engines/vllm/settings.py", "fp8"): "number format",
    ("planning/formats.py", "fp8"): "number format",
    ("validation/common_mistakes.py", "fp8"): "number format",
    ("evaluation/lm_eval/scores.py", "none"): "filter of lm-evaluation-harness",
    ("pipeline/stages/tasks/__init__.py", "none"): "filter of lm-evaluation-harness",
    ("pipeline/stages/jobs/weights.py", "gguf"): "format of a checkpoint's files",
    ("data/models/generated.py", "llama"): "the family that is generated",
}


@dataclass(frozen=True)
class Comparison:
    """A place where the code compares something with a name."""

    file: str
    line: int
    name: str
    text: str


def names() -> set[str]:
    """Names of all that the runner chooses among at run time."""
    groups = ("environment", "tracker", "hydra/launcher", "hydra/sweeper")
    options = {path.stem for group in groups for path in (conf_dir() / group).glob("*.yaml")}
    backends = {backend for name in method_names() for backend in find_method(name).backends}
    own = {*engine_names(), *method_names(), *tracker_names(), *backends}
    return own | options | FAMILIES | {"none"}


def comparisons(source: str, file: str, known: set[str]) -> Iterator[Comparison]:
    """Those with a known name in a file's code: ``==``, ``in``, ``case``, and ``startswith``."""
    for node in ast.walk(ast.parse(source)):
        compared: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            if any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
                compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("startswith", "endswith")
        ):
            compared = [*node.args]
        for side in compared:
            for part in _constants(side):
                if part.value in known:
                    yield Comparison(file, node.lineno, part.value, ast.unparse(node))


def _constants(side: ast.AST) -> Iterator[ast.Constant]:
    """Texts that a side of a comparison consists of, not those that are looked up with."""
    if isinstance(side, ast.Constant) and isinstance(side.value, str):
        yield side
    elif isinstance(side, ast.Tuple | ast.List | ast.Set):
        for one in side.elts:
            yield from _constants(one)


def is_allowed(found: Comparison) -> bool:
    """Whether it is in its own file, or the name means something else there."""
    own = any(found.file.startswith(place) and found.name in has for place, has in OWN.items())
    return own or (found.file, found.name) in OTHER_MEANINGS


def test_nothing_is_decided_by_a_name() -> None:
    known = names()
    found = [
        comparison
        for path in sorted(RUNNER.rglob("*.py"))
        for comparison in comparisons(path.read_text("utf-8"), str(path.relative_to(RUNNER)), known)
    ]
    wrong = [str(one) for one in found if not is_allowed(one)]
    assert not wrong, "ask for a capability instead:\n" + "\n".join(wrong)
    used = {(one.file, one.name) for one in found}
    assert set(OTHER_MEANINGS) <= used, "no longer there: drop it from the list"


@pytest.mark.parametrize(
    "code",
    [
        'if engine.name == "hf": pass',
        'x = name in ("vllm", "other")',
        'match name:\n    case "gptq": pass',
        'x = tracker != "wandb"',
        'x = name.startswith("vllm")',
        'x = config["model_type"] in {"opt"}',
    ],
)
def test_a_decision_by_name_is_found(code: str) -> None:
    assert list(comparisons(code, "somewhere.py", names()))
