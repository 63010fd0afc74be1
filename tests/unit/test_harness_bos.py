"""What the harness's models really look at begins with one BOS, or with none: token ids told.

The models of lm-evaluation-harness tokenize here as they do in a run; what computes is a stand-in
that notes what it is shown.
"""

import importlib.metadata
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models import huggingface
from tokenizers import processors

from runner.config.schema.model import ByteTokenizer
from runner.data.models.byte_tokenizers import byte_tokenizer
from runner.engines.tokens import Asked, Told
from runner.errors import StageError
from runner.evaluation.lm_eval import models
from runner.evaluation.lm_eval.answers import Answers
from runner.evaluation.lm_eval.tokens import token_model

pytestmark = pytest.mark.unit

BOS, ROWS, CONTEXT = 0, 512, 48
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
FAMILIES = {
    # A tokenizer that puts none, as of GGUF files by transformers: Gemma is lost without.
    "gemma": ("gemma3_text", ByteTokenizer.sentencepiece, False, 1),
    "llama3": ("llama", ByteTokenizer.byte_level, True, 1),
    "smollm2": ("llama", ByteTokenizer.byte_level, False, 0),
}
LONG = "a text that is longer than the context of the model, by far, and goes on. " * 3


class Shown(torch.nn.Module):
    """Notes the rows that it is shown; every token is as likely as the next."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.rows: list[list[int]] = []
        self.config = SimpleNamespace(
            max_position_embeddings=CONTEXT, model_type="llama", vocab_size=ROWS
        )
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def forward(self, ids: torch.Tensor) -> Any:
        self.rows += ids.tolist()
        return SimpleNamespace(logits=torch.zeros(*ids.shape, ROWS))

    def generate(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        self.rows += input_ids.tolist()
        return torch.nn.functional.pad(input_ids, (0, 1), value=9)

    def tie_weights(self) -> None:
        pass


def tokenizer(place: Path, family: str) -> Any:
    kind, bytes_by, puts_bos, _ = FAMILIES[family]
    made = byte_tokenizer(bytes_by, ROWS, CONTEXT)
    made.chat_template = (
        TEMPLATE if family != "smollm2" else TEMPLATE.replace("{{ bos_token }}", "")
    )
    if puts_bos:
        made.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", BOS)]
        )
    made.save_pretrained(place)
    (place / "config.json").write_text(json.dumps({"model_type": kind, "vocab_size": ROWS}))
    return made


def of_hf(place: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Shown]:
    kind = models.remembering(huggingface.HFLM)
    monkeypatch.setattr(kind, "_get_backend", lambda self, **_: setattr(self, "backend", "causal"))
    shown = Shown()
    made = kind(
        pretrained=shown, tokenizer=tokenizer(place, family), batch_size=2, max_length=CONTEXT
    )
    return models.with_tokenizer(made, made.tokenizer, place), shown


class Teller:
    """What stands for an engine's process: notes tokens, each as likely as the next."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []

    def tell(self, asked: list[Asked], places: int, tokens: int) -> list[Told]:
        self.rows += [one.tokens for one in asked if not one.more]
        assert all(one.place < places and len(one.tokens) <= tokens for one in asked)
        return [
            Told(-one.scored * math.log(ROWS), False) if one.scored else Told(next_token=9)
            for one in asked
        ]


def of_tokens(place: Path, family: str) -> tuple[Any, Teller]:
    made = tokenizer(place, family)
    kind, stand_in = token_model(place, False, CONTEXT)
    model = models.remembering(kind)(
        pretrained=stand_in, backend="causal", tokenizer=made, batch_size=2
    )
    model.tokens = Teller()
    return models.with_tokenizer(model, made, place), model.tokens


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The harness's model of vLLM, without vLLM."""
    modules = ("vllm", "vllm.lora", "vllm.lora.request", "vllm.renderers", "vllm.renderers.hf",
               "vllm.tokenizers")  # fmt: skip
    for name in modules:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    plain: Any = sys.modules["vllm"]
    plain.LLM, plain.SamplingParams, plain.TokensPrompt = object, SimpleNamespace, dict
    for name, member in (("lora.request", "LoRARequest"), ("renderers.hf", "resolve_chat_template"),
                         ("tokenizers", "get_tokenizer")):  # fmt: skip
        setattr(sys.modules[f"vllm.{name}"], member, object)
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.20" if name == "vllm" else version(name)
    )
    from lm_eval.models import vllm_causallms

    yield vllm_causallms
    sys.modules.pop(vllm_causallms.__name__, None)


class Generator:
    """vLLM's ``LLM``, as far as the harness asks it."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []

    def generate(self, prompts: list[Any], **_: Any) -> list[Any]:
        self.rows += [prompt["prompt_token_ids"] for prompt in prompts]
        told = SimpleNamespace(logprob=-1.0)
        return [
            SimpleNamespace(
                prompt_logprobs=[None, *({token: told} for token in row[1:])],
                outputs=[SimpleNamespace(text="x", token_ids=[7])],
            )
            for row in self.rows[-len(prompts) :]
        ]


def of_vllm(place: Path, family: str, module: Any) -> tuple[Any, Generator]:
    kind = models.remembering(module.VLLM)
    made, shown = kind.__new__(kind), Generator()
    read = tokenizer(place, family)
    read.pad_token = read.eos_token
    vars(made).update(
        _rank=0, _world_size=1, add_bos_token=None, custom_prefix_token_id=None, batch_size=2,
        model=shown, _max_length=CONTEXT, lora_request=None, data_parallel_size=1,
        enable_thinking=None, chat_template_args={}, hf_chat_template=None, max_gen_toks=4,
        truncation_side="left", think_end_token=None, _max_gen_toks=4,
    )  # fmt: skip
    return models.with_tokenizer(made, read, place), shown


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, given, 0, ("task", 0, 1)) for given in arguments]


def without_padding(row: list[int], padding: int) -> list[int]:
    """The harness pads with the tokenizer's token on the left, and with zeros on the right."""
    left = next((place for place, token in enumerate(row) if token != padding), 0)
    right = next((place for place, token in enumerate(reversed(row)) if token), 0)
    return row[left if padding != BOS else 0 : len(row) - right]


def is_prefixed(kind: str, row: list[int], model: Any) -> bool:
    """Whether the harness put a token for the first one to be told from, as it does of all models.

    That is before texts without a prompt.
    """
    alone = model.tokenizer("alone")["input_ids"]
    return row[0] == BOS and (kind == "loglikelihood_rolling" or row[1:] == alone[: len(row) - 1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("engine", ["hf", "vllm", "tokens"])
def test_what_is_scored_begins_with_one_bos_where_the_model_has_one(
    engine: str, family: str, tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model: Any
    shown: Any
    if engine == "hf":
        model, shown = of_hf(tmp_path, family, monkeypatch)
    elif engine == "tokens":
        model, shown = of_tokens(tmp_path, family)
    else:
        model, shown = of_vllm(tmp_path, family, request.getfixturevalue("vllm"))
    models.keep_answers(model, Answers(tmp_path / "answers.jsonl", lambda *_: None))
    expected = FAMILIES[family][-1]
    assert (model.leading_bos is not None) == bool(expected)
    chat = model.apply_chat_template([{"role": "user", "content": "why"}])
    asked = {
        "loglikelihood": [("a question", " and"), ("", "alone"), (chat, "so"), (LONG, " at last")],
        "loglikelihood_rolling": [("some text",), (LONG,), ("more",)],
        "generate_until": [
            ("a question", {"until": ["."], "max_gen_toks": 4}),
            ("another that is longer", {"until": ["."], "max_gen_toks": 4}),
            (LONG, {"until": ["."], "max_gen_toks": 4}),
            (chat, {"until": ["!"], "max_gen_toks": 4}),
        ],
    }
    for kind, arguments in asked.items():
        shown.rows.clear()
        getattr(model, kind)(requests(kind, *arguments))
        assert shown.rows
        for row in shown.rows:
            seen = without_padding(row, model.tokenizer.pad_token_id)
            if not expected and is_prefixed(kind, seen, model):
                seen = seen[1:]
            assert seen.count(BOS) == expected, (kind, row)
            assert (seen[0] == BOS) == bool(expected), (kind, row)
    if expected:
        scored = model.loglikelihood_rolling(requests("loglikelihood_rolling", ("abc",)))
        per_token = 1.0 if engine == "vllm" else torch.tensor(ROWS).log().item()
        assert scored == [pytest.approx(-3 * per_token)], "BOS itself is not scored"


def test_a_model_that_gives_no_numbers_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shown = of_hf(tmp_path, "smollm2", monkeypatch)
    model.load_request = SimpleNamespace(checkpoint=tmp_path, dtype="float16")
    models.keep_answers(model, Answers(tmp_path / "answers.jsonl", lambda *_: None))

    def forward(ids: torch.Tensor) -> Any:
        return SimpleNamespace(logits=torch.full((*ids.shape, ROWS), torch.nan))

    monkeypatch.setattr(shown, "forward", forward)
    for kind, arguments in (("loglikelihood", ("a", " b")), ("loglikelihood_rolling", ("abc",))):
        with pytest.raises(StageError, match=r"float16.*eval\.dtype"):
            getattr(model, kind)(requests(kind, arguments))
    assert not model.begins_itself


def test_a_template_that_takes_no_such_prompt_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = of_hf(tmp_path, "llama3", monkeypatch)
    model.tokenizer.chat_template = "{{ raise_exception('no \\n such role') }}"
    with pytest.raises(StageError, match=r"\(no such role\); set tasks\.apply_chat_template=false"):
        model.apply_chat_template([{"role": "user", "content": "why"}])


def test_a_model_that_is_lost_without_a_bos_is_refused_where_none_can_be_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tokenizer(tmp_path, "gemma")
    monkeypatch.setattr(type(made), "add_bos_token", property(lambda _: False, lambda *_: None))
    with pytest.raises(
        StageError, match=r"adds none: add_bos_token=true in tokenizer_config\.json"
    ):
        models.with_tokenizer(SimpleNamespace(), made, tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"do_sample": True}, "draws answers"),
        ({"temperature": 0.7, "do_sample": True}, "draws answers"),
        ({"num_beams": 4}, "generation_kwargs have num_beams"),
    ],
)
def test_an_engine_asked_by_tokens_gives_none_but_the_likeliest_answer(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    model, _ = of_tokens(tmp_path, "smollm2")
    models.keep_answers(model, Answers(tmp_path / "answers.jsonl", lambda *_: None))
    asked = ("why", {"until": ["."], "max_gen_toks": 4, **options})
    with pytest.raises(StageError, match=said):
        model.generate_until(requests("generate_until", asked))


def test_answers_end_at_a_stop_sequence_or_where_the_model_ends_them(tmp_path: Path) -> None:
    model, shown = of_tokens(tmp_path, "smollm2")
    models.keep_answers(model, Answers(tmp_path / "answers.jsonl", lambda *_: None))
    written = {"first": "so.. it is", "second": "no"}
    left = {
        tuple(model.tok_encode(prompt)): [*model.tok_encode(answer), model.eot_token_id]
        for prompt, answer in written.items()
    }
    at: dict[int, list[int]] = {}

    def tell(asked: list[Asked], places: int, tokens: int) -> list[Told]:
        for one in asked:
            if not one.more:
                at[one.place] = list(left[tuple(one.tokens)])
        return [Told(next_token=at[one.place].pop(0)) for one in asked]

    shown.tell = tell  # type: ignore[method-assign]
    model.tokens = shown
    options = {"until": [".. "], "max_gen_toks": 12}
    (tmp_path / "generation_config.json").write_text("{}")
    asked = [(prompt, options) for prompt in written]
    assert model.generate_until(requests("generate_until", *asked)) == ["so", "no"]
    assert {len(rest) for rest in at.values()} == {0, len(model.tok_encode("it is")) + 1}
