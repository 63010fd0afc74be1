"""Models that come as a GGUF file: dequantized, they compute what llama.cpp computes."""

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import runner
from runner.api import compose_config
from runner.config.compose import quoted
from runner.data.models.gguf_header import GgufHeader, read_header
from runner.data.models.gguf_model import name_special_tokens, read_gguf_model
from runner.data.models.package import fetch_package
from runner.data.models.read_tokenizer import read_tokenizer
from runner.data.models.sentencepiece_model import write_sentencepiece
from runner.data.models.tokenizer import SPACE, gguf_tokenizer
from runner.data.packages import fetch_tree
from runner.engines.llama_cpp.settings import NO_GPU
from runner.methods.backends import llama_cpp
from tests.integration.conftest import Called, here, records

pytestmark = [pytest.mark.integration, pytest.mark.environments("llama_cpp")]

KEPT = Path.home() / ".cache" / "quant-runner" / "cache"
QUICK = ("eval=quick", "tracker=none", "method=none", "stages=[eval]")
TEXTS = [
    "Hello world", "hello  world", "   leading", "trailing   ", "a\n\nb\n\n\nc", "\t\tindent\tx",
    "x = [1, 2, 3]\n    return x\n", "1234567890 12 3.14159", "<b>bold</b> <table>",
    "日本語のテキスト、漢字。", "Привет, мир!", "🎉🚀 emoji 👨‍👩‍👧", "naïve café", "\u200bzero",
    "a\u0301", "aaaaaaaaaaaaaaaaaaaa", "-" * 40, "hello\r\nworld\r", "\x01", "𐍈𝔘𝔫𝔦", "العربية",
    "hahahahaha nanananana", "<start_of_turn>user\nhi<end_of_turn>", "▁under▁score", "\n" * 70,
    " " * 100, "http://example.com/a?b=c&d=e#f", "I'll don't WON'T it's", "CamelCase snake_case",
    "", " ", "\n", "\r\n\r\n a \r\n", "\ufeffmark", "\u00a0\u3000\u2028", "\x00\x7f\x85", "½ ² ①",
    "٣٤", "\uff11\uff12 \uff26\uff35", "\ufb01 \u1e9b\u0323", "ẞ ß \u0130 \u0131 \u01c5", "한국어",
    "नमस्ते दुनिया", "ไทยภาษา", "𠀀 \U0001f1e9\U0001f1ea", "<s>hello</s>", " <s> a <unk> b",
    "<|endoftext|>a<|endoftext|>", "<|im_start|>user\nhi<|im_end|>\n", "<|user|> hi <|end|>\n x",
    "<bos>x<eos><pad><unused0>", "<0x0A>", "<|begin_of_text|>x<|eot_id|> y",
    "def f(x):\n\treturn x**2  # c\n\n\n", "'S 'LL “quote”…", '{"a": [1, 2.50, {"b": null}]}',
    "3,141,592.65 0x1F 1e-5 1 22 333 4444 55555", "  two   three", "Ω≈ç√∫µ≤≥÷",
    "\ud7ff\ue000\uffff",
]  # fmt: skip
PIECES = (
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    "a",
    "the",
    "1",
    "23",
    ".",
    "!!",
    "'s",
    "é",
    "日",
    "🙂",
    "_",
    "ß ",
)
VOCABULARIES = ("llama-spm", "phi-3", "llama-bpe", "qwen2", "gpt-2", "starcoder")
"""Kinds of tokenizers that are read, by the files that come with llama.cpp's source."""
TELL = """
import json, sys
from llama_cpp import Llama
files, texts = json.load(sys.stdin)
def ids(file):
    read = Llama(file, vocab_only=True, verbose=False).tokenize
    return [read(text.encode(), add_bos=True, special=True) for text in texts]
json.dump([ids(file) for file in files], sys.stdout)
"""
ASK = """
import ctypes, json, sys
import llama_cpp as api
import numpy as np
said = api.llama_log_callback(lambda *_: None)
api.llama_log_set(said, ctypes.c_void_p())
file, window = json.load(sys.stdin)
model = api.llama_model_load_from_file(file.encode(), api.llama_model_default_params())
settings = api.llama_context_default_params()
settings.n_ctx, settings.n_threads, settings.n_threads_batch = 256, 2, 2
context = api.llama_init_from_model(model, settings)
batch = api.llama_batch_init(len(window), 0, 1)
batch.n_tokens = len(window)
for i, token in enumerate(window):
    batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
    batch.seq_id[i][0] = 0
assert api.llama_decode(context, batch) == 0
rows = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
logits = np.ctypeslib.as_array(api.llama_get_logits(context), (len(window), rows))
logits = logits[:-1].astype(np.float64)
top = logits.max(1)
right = logits[np.arange(len(logits)), window[1:]]
losses = top + np.log(np.exp(logits - top[:, None]).sum(1)) - right
json.dump(losses.mean(), sys.stdout)
"""
ENGINE = """
import json, sys
from pathlib import Path
import numpy as np
(repository, file, damaged), window = json.load(sys.stdin)
sys.path.append(repository)
from runner.engines.base import LoadSpec
from runner.engines.llama_cpp import ENGINE, LlamaCpp
from runner.errors import StageError
def load(place, device="cpu", **settings):
    told = LlamaCpp(name="llama_cpp", **settings)
    return ENGINE.load(LoadSpec(Path(place), "gguf", device, "float32", False, 2, told))
def refusal(call, *arguments, **settings):
    try:
        call(*arguments, **settings)
    except StageError as error:
        return str(error)
said = [refusal(load, file, "cuda"), refusal(load, damaged), refusal(load, file, context_length=1)]
model = load(file, context_length=300)
model.generate(1, 299, 1)
said.append(refusal(model.generate, 1, 299, 2))
model = load(file)
before = model.token_losses(window)
model.generate(3, 300, 2)
assert np.allclose(model.token_losses(window), before, rtol=1e-5), "in a larger context"
model.close()
json.dump(said, sys.stdout)
"""

ROUND = """
import contextlib, json, sys
from pathlib import Path
package, source, made = json.load(sys.stdin)
sys.path.insert(0, package)
from runner.errors import StageError
from runner.methods.backends.gguf_types import TypeChoice
from runner.methods.backends.llama_cpp import quantize_file
with contextlib.redirect_stdout(sys.stderr):
    try:
        said = quantize_file(Path(source), Path(made), TypeChoice("Q4_0"), threads=1, matrix=None)
    except StageError as error:
        said = str(error)
json.dump(said, sys.stdout)
"""


@pytest.fixture(scope="module")
def file(
    store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tiny Gemma 3 of random weights as a GGUF file, by llama.cpp's own converter."""
    done = here(
        "model=zoo/gemma3", "method=gguf", "method.quant_type=BF16", "stages=[quantize,eval]",
        "eval=quick", "tracker=none", "sweep=gemma_file", cwd=tmp_path_factory.mktemp("made"),
        variables=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = records(store, "gemma_file")
    entry = next(entry for entry in record["stages"] if entry["stage"] == "quantize")
    (found,) = (store / "objects" / "quantize" / entry["key"]).rglob("*.gguf")
    return found


def evaluation(store: Path, sweep: str) -> dict[str, Any]:
    (record,) = records(store, sweep)
    found: dict[str, Any] = [s for s in record["stages"] if s["stage"] == "eval"][-1]["result"]
    return found


def test_engine_hf_computes_the_same_of_the_file(store: Path, file: Path) -> None:
    """Norms, sliding window, both rotary bases and scales: bfloat16 loses nothing of them."""
    found = evaluation(store, "gemma_file")
    assert found["change"]["ratio"]["estimate"] == pytest.approx(1, abs=1e-6)
    assert found["divergence"]["kl_divergence"]["mean"]["estimate"] == pytest.approx(0, abs=1e-5)


def test_windows_of_a_model_with_a_bos_begin_with_it_and_are_named_so(
    command: Callable[..., Called], store: Path, file: Path
) -> None:
    found = evaluation(store, "gemma_file")["perplexity"]
    assert (found["protocol"], found["sample"]["bos"]) == ("spread_bos_128", True)
    published = ("eval.protocols=[gptq,llama_cpp]", "eval.bos=never", "sweep=never")
    done = command("model=zoo/gemma3", *QUICK, *published)
    assert done.returncode == 0, done.stderr
    assert "belongs to a family that fails without a BOS" in done.stderr
    without = evaluation(store, "never")
    assert (without["perplexity"]["protocol"], without["perplexity"]["sample"]["bos"]) == (
        "gptq_128", False,
    )  # fmt: skip
    (own_rule,) = without["further"]
    assert own_rule["perplexity"]["sample"]["bos"] is True
    done = command("model=zoo/gemma3", *QUICK, "eval.protocols=[llama_cpp]", "eval.bos=never")
    assert done.returncode == 2
    assert "eval.bos=never has no effect" in done.stderr


def test_file_is_a_model(
    command: Callable[..., Called], store: Path, file: Path, tmp_path: Path
) -> None:
    """Dequantized once, by its content: in another directory and by another name it is reused."""
    for folder, name in (("one", "a.gguf"), ("two", "b.gguf")):
        (tmp_path / folder).mkdir()
        shutil.copy(file, tmp_path / folder / name)
    shutil.copy(file, tmp_path / "two" / "c.gguf")
    one, two = (f"model.path={quoted(tmp_path / name)}" for name in ("one", "two"))
    assert command("model=local", one, *QUICK, "sweep=one").returncode == 0
    done = command("model=local", two, "model.file=b.gguf", *QUICK, "sweep=two")
    assert done.returncode == 0, done.stderr
    keys = {records(store, sweep)[0]["stages"][-1]["key"] for sweep in ("one", "two")}
    assert len(keys) == 1
    done = command("model=local", one, *QUICK, "engine=llama_cpp", "sweep=by_llama_cpp")
    assert done.returncode == 0, done.stderr
    by_hf, by_llama_cpp = (
        evaluation(store, sweep)["perplexity"]["value"] for sweep in ("one", "by_llama_cpp")
    )
    assert by_llama_cpp == pytest.approx(by_hf, rel=0.01)
    # Engines are given token ids, BOS among them: none puts another before.
    digests = {evaluation(store, s)["perplexity"]["sample"]["tokens_sha256"] for s in (
        "one", "by_llama_cpp")}  # fmt: skip
    assert len(digests) == 1
    done = command("model=local", two, *QUICK)
    assert done.returncode == 2
    assert "contains b.gguf, c.gguf: choose one with model.file=" in done.stderr


def asked(variables: dict[str, str], cwd: Path, code: str, *content: Any) -> Any:
    """What code finds in llama.cpp's environment."""
    made = here("env", "create", "llama_cpp", cwd=cwd, variables=variables)
    assert made.returncode == 0, made.stderr
    places = Path(variables["QUANT_RUNNER_ENVIRONMENTS"]).glob("llama_cpp-*")
    place = max(places, key=lambda found: found.stat().st_mtime)
    done = subprocess.run(
        [place / "bin" / "python", "-c", code], input=json.dumps(content),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_a_file_that_cannot_be_rounded_is_told_with_llama_cpps_reason(
    plain_variables: dict[str, str], file: Path, tmp_path: Path
) -> None:
    root = str(Path(__file__).parents[2])
    made = tmp_path / "made.gguf"
    assert asked(plain_variables, tmp_path, ROUND, root, str(file), str(made)) is None
    assert made.stat().st_size < file.stat().st_size
    nowhere = str(tmp_path / "nowhere" / "made.gguf")
    said = asked(plain_variables, tmp_path, ROUND, root, str(file), nowhere)
    assert said == "llama.cpp cannot quantize to Q4_0: basic_ios::clear: iostream error"


def package_file(name: str) -> Path:
    """The GGUF file of a model that comes as a package, kept where a user's is."""
    return fetch_package(compose_config([f"model={name}"]).model, KEPT)


def read_again(tokenizer: Any, header: GgufHeader, place: Path) -> Any:
    """The tokenizer as a directory made of the file has it."""
    place.mkdir()
    ids = {f"{name}_token_id": header.special_token(name) for name in ("bos", "eos")}
    name_special_tokens(tokenizer, SimpleNamespace(**ids))
    tokenizer.save_pretrained(place)
    write_sentencepiece(header, place)
    (place / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return read_tokenizer(place, False)


@pytest.mark.timeout(600)
def test_tokens_are_those_of_llama_cpp(
    plain_variables: dict[str, str], file: Path, tmp_path: Path
) -> None:
    """For every kind of tokenizer that is read, and again when the directory made of it is.

    And they come back as the text, but for the sign that stands for a space, and spaces around
    control tokens.
    """
    chosen = random.Random(0)
    mixed = ["".join(chosen.choices(PIECES, k=chosen.randint(2, 24))) for _ in range(200)]
    texts = [*TEXTS, *mixed, Path(__file__).read_text()]
    names = [f"vendor/llama.cpp/models/ggml-vocab-{name}.gguf" for name in VOCABULARIES]
    tree = fetch_tree(
        "llama-cpp-python", llama_cpp.VERSION, tuple(names), llama_cpp.SHA256, KEPT / "vocabularies"
    )
    files = [tree / name for name in names]
    files += [package_file("gemma3_270m"), package_file("smollm2_135m"), file]
    theirs = asked(plain_variables, tmp_path, TELL, [str(path) for path in files], texts)
    for number, (path, told) in enumerate(zip(files, theirs, strict=True)):
        header = read_header(path)
        tokenizer = gguf_tokenizer(header)
        again = read_again(tokenizer, header, tmp_path / str(number))
        added = tokenizer.added_tokens_decoder.values()
        signs = [SPACE, *(str(token) for token in added if token.special)]
        for text, expected in zip(texts, told, strict=True):
            # There llama.cpp takes an ordinary token for a control token, by what it looks like.
            if "qwen2" in path.name and "</s>" in text:
                continue
            ids = tokenizer(text)["input_ids"]
            assert ids == expected, (path.name, text)
            assert again(text)["input_ids"] == ids, (path.name, text)
            alone = tokenizer(text, add_special_tokens=False)["input_ids"]
            if not any(sign in text for sign in signs):
                assert tokenizer.decode(alone) == text, (path.name, text)


@pytest.mark.timeout(600)
def test_gemma_computes_what_llama_cpp_computes_of_the_same_file(
    plain_variables: dict[str, str], tmp_path: Path
) -> None:
    """The losses of a window, on the original file."""
    import torch

    path = package_file("gemma3_270m")
    header = read_header(path)
    tokenizer = gguf_tokenizer(header)
    prose = "The tower is 324 metres tall, about the same height as a building of 81 storeys. " * 4
    window = tokenizer(prose)["input_ids"][:65]
    assert window[0] == tokenizer.convert_tokens_to_ids("<bos>")
    loss = asked(plain_variables, tmp_path, ASK, str(path), window)
    with torch.inference_mode():
        logits = read_gguf_model(header, "float32")(torch.tensor([window])).logits[0]
    ours = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(window[1:])).item()
    assert ours == pytest.approx(loss, abs=0.01), "1% in perplexity"


def test_engine_llama_cpp_says_what_it_cannot_do_and_makes_room_for_the_rest(
    file: Path, plain_variables: dict[str, str], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(file.read_bytes()[:5000])
    repository = str(Path(runner.__file__).parents[1])
    paths, window = [repository, str(file.parent), str(tmp_path)], list(range(2, 130))
    assert asked(plain_variables, tmp_path, ENGINE, paths, window) == [
        NO_GPU,
        "llama.cpp cannot load damaged.gguf",
        "2 tokens do not fit engine.context_length=1",
        "301 tokens do not fit engine.context_length=300",
    ]
