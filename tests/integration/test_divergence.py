"""Quality against the unquantized model, checked with plain transformers and numpy."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.config.compose import quoted
from runner.data.texts.spread import spread_windows
from tests.integration.conftest import (
    FLOAT32,
    SAME,
    TINY,
    Called,
    base_model,
    computing,
    here,
    records,
)

pytestmark = pytest.mark.integration

LENGTH, WINDOWS = 64, 3
ARGUMENTS = (
    *TINY,
    "method=rtn",
    "stages=[quantize,eval]",
    "tracker=none",
    "eval=all_protocols",
    f"eval.context_length={LENGTH}",
    f"eval.windows={WINDOWS}",
    "text@eval.text=local",
)


class Plain:
    """A directory's model in transformers, computing in ``dtype`` as a person would by hand."""

    def __init__(self, directory: Path, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, CompressedTensorsConfig

        options = {}
        if "quantization_config" in json.loads((directory / "config.json").read_text()):
            options["quantization_config"] = CompressedTensorsConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, **options)
        self._model = model.to(getattr(torch, dtype)).eval()

    def log_probabilities(self, tokens: list[int]) -> np.ndarray:
        """Double-precision log-softmax of all positions' logits."""
        import torch

        with torch.inference_mode():
            logits = self._model(torch.tensor([tokens])).logits[0].double()
            return torch.log_softmax(logits, dim=-1).numpy()

    def losses(self, tokens: list[int]) -> np.ndarray:
        """Of every token but the first."""
        found = self.log_probabilities(tokens)[:-1]
        return -found[np.arange(len(tokens) - 1), tokens[1:]]


@pytest.fixture(scope="module")
def environment(store: Path, plain_variables: dict[str, str], arithmetic: str) -> dict[str, str]:
    return computing({**plain_variables, "QUANT_RUNNER_STORE": str(store)}, arithmetic)


@pytest.fixture(scope="module")
def arguments(prose: Path, arithmetic: str) -> tuple[str, ...]:
    types = f"eval.dtype={arithmetic}", "eval.floor=[]"
    return (*ARGUMENTS, f"eval.text.path={quoted(prose)}", *types)


@pytest.fixture(scope="module")
def measured(
    arguments: tuple[str, ...],
    store: Path,
    environment: dict[str, str],
    prose: Path,
    tmp_path_factory: pytest.TempPathFactory,
    arithmetic: str,
) -> dict[str, Any]:
    """What the runner found, by subject, with the directory of each."""
    sweep = f"divergence_{arithmetic}"
    done = here(
        *arguments, f"sweep={sweep}", cwd=tmp_path_factory.mktemp("work"), variables=environment
    )
    assert done.returncode == 0, done.stderr
    (record,) = records(store, sweep)
    found = {s["subject"]: s["result"] for s in record["stages"] if s["stage"] == "eval"}
    keys = {(s["stage"], s["subject"]): s["key"] for s in record["stages"]}
    checkpoint = store / "objects" / "quantize" / keys["quantize", "recipe"] / "checkpoint"
    manifest = json.loads((checkpoint.parent / "result.json").read_text())
    assert manifest["stage"] == "quantize"
    model = base_model(store, record)
    return {
        **found,
        "stdout": done.stdout,
        "base": Plain(model, arithmetic),
        "own": Plain(checkpoint, arithmetic),
        "model": model,
        "windows": spread_by_hand(model, prose.read_text().strip()),
        "files": store / "objects" / "eval" / keys["eval", "recipe"],
    }


def spread_by_hand(model: Path, text: str) -> list[list[int]]:
    """The windows, seen to lie in each part of the document and to begin with a word."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    windows = spread_windows(tokenizer, [text], LENGTH, WINDOWS).windows
    said = [tokenizer.decode(window) for window in windows]
    places = [text.index(piece) / len(text) for piece in said]
    assert [int(WINDOWS * place) for place in places] == list(range(WINDOWS)), "one in each third"
    assert all(text[text.index(piece) - 1] == " " for piece in said), "from a word's start on"
    return windows


@pytest.fixture(scope="module")
def tokens(measured: dict[str, Any], prose: Path) -> list[int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(measured["model"])
    found: list[int] = tokenizer(prose.read_text().strip())["input_ids"]
    return found


def test_divergence_by_hand(measured: dict[str, Any], arithmetic: str) -> None:
    kl, reverse, same, change = [], [], [], []
    for window in measured["windows"]:
        p, q = (measured[m].log_probabilities(window)[:-1] for m in ("base", "own"))
        right = np.arange(LENGTH - 1), window[1:]
        kl.append((np.exp(p) * (p - q)).sum(axis=1))
        reverse.append((np.exp(q) * (q - p)).sum(axis=1))
        same.append(p.argmax(axis=1) == q.argmax(axis=1))
        change.append(np.exp(q[right]) - np.exp(p[right]))
    found = measured["recipe"]["divergence"]
    assert found["protocol"] == f"spread_{LENGTH}"
    assert (found["windows"], found["tokens"]) == (WINDOWS, WINDOWS * (LENGTH - 1))
    files = measured["files"]
    tokenwise, mean, agreeing, probability = (
        (2e-5, 1e-3, 0.011, 1e-5) if arithmetic == FLOAT32 else (0.2, 0.03, 0.03, 0.02)
    )
    assert np.load(files / "token_kl_divergence.npy") == pytest.approx(
        np.concatenate(kl), abs=tokenwise
    )
    assert found["kl_divergence"]["mean"]["estimate"] == pytest.approx(np.mean(kl), rel=mean)
    assert found["reverse_kl_divergence"]["mean"]["estimate"] == pytest.approx(
        np.mean(reverse), rel=mean
    )
    agreement = found["top_1_agreement"]["mean"]["estimate"]
    assert agreement == pytest.approx(np.mean(same), abs=agreeing)
    assert np.load(files / "token_probability_change.npy") == pytest.approx(
        np.concatenate(change), abs=probability
    )
    assert 0.001 < np.mean(kl) < 5, "there is something to see"
    assert measured["baseline"]["divergence"] is None
    assert measured["baseline"]["reference"]["form"] == "states"
    assert "KL div." in measured["stdout"]


def test_every_protocol_by_hand(
    measured: dict[str, Any], tokens: list[int], prose: Path, arithmetic: str
) -> None:
    rel = SAME[arithmetic]
    plain = measured["base"]
    cut = [tokens[i * LENGTH : (i + 1) * LENGTH] for i in range(WINDOWS)]
    spread = measured["baseline"]["perplexity"]
    gptq, half, word, byte = (entry["perplexity"] for entry in measured["baseline"]["further"])
    apart = [plain.losses(window) for window in measured["windows"]]
    assert spread["value"] == pytest.approx(math.exp(np.mean(apart)), rel=rel)
    assert spread["sample"]["sampling"] == "spread"
    assert spread["tokens_scored"] == gptq["tokens_scored"] == WINDOWS * (LENGTH - 1)
    assert gptq["protocol"] == f"gptq_{LENGTH}"
    losses = [plain.losses(window) for window in cut]
    assert gptq["value"] == pytest.approx(math.exp(np.mean(losses)), rel=rel)
    # The tokenizer puts no BOS before a text, so neither does llama.cpp.
    second = [part[LENGTH // 2 :] for part in losses]
    assert half["protocol"] == f"llama_cpp_{LENGTH}"
    assert half["tokens_scored"] == WINDOWS * (LENGTH // 2 - 1)
    assert half["value"] == pytest.approx(math.exp(np.mean(second)), rel=rel)
    total, text = rolling(plain, measured["model"], prose)
    assert (word["unit"], byte["unit"]) == ("word", "byte")
    assert word["protocol"] == byte["protocol"] == f"lm_eval_{LENGTH}"
    words = len(re.split(r"\s+", text))
    # A word is several of this tokenizer's tokens, each with its own error.
    tokens_a_word = len(text) / words
    assert math.log(word["value"]) == pytest.approx(total / words, abs=rel * tokens_a_word)
    assert byte["value"] == pytest.approx(math.exp(total / len(text.encode())), rel=rel)


def rolling(plain: Plain, model: Path, prose: Path) -> tuple[float, str]:
    """Negative log-likelihood of the part of the text that is scored, token by token, and it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    text = prose.read_text().strip()
    ids = tokenizer(text)["input_ids"]
    text = re.sub(r"\s+\S*$", "", text[: int(len(text) * WINDOWS * LENGTH / len(ids))])
    ids = tokenizer(text)["input_ids"]
    prefix = (
        tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    )
    total = 0.0
    for start in range(0, len(ids), LENGTH):
        part = ids[start : start + LENGTH]
        before = [prefix, *ids][: start + 1][-(LENGTH + 1 - len(part)) :]
        total += plain.losses([*before, *part])[-len(part) :].sum()
    return total, text


def test_a_bound_on_the_reference_limits_what_is_compared(
    arguments: tuple[str, ...],
    command: Callable[..., Called],
    store: Path,
    measured: Any,
    arithmetic: str,
) -> None:
    kept = measured["baseline"]["reference"]["bytes"]
    done = command(
        *arguments, f"eval.reference_max_bytes={kept - 1}", "eval.protocols=[spread]",
        f"sweep=bounded_{arithmetic}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"holds {WINDOWS - 1} of {WINDOWS} windows" in done.stderr
    (record,) = records(store, f"bounded_{arithmetic}")
    recipe = next(s["result"] for s in record["stages"]
                  if (s["stage"], s["subject"]) == ("eval", "recipe"))  # fmt: skip
    assert recipe["divergence"]["windows"] == WINDOWS - 1
    assert recipe["perplexity"]["windows"] == WINDOWS
    assert recipe["perplexity"]["value"] == pytest.approx(
        measured["recipe"]["perplexity"]["value"], rel=SAME[arithmetic] / 10
    )


def test_a_text_that_is_too_short_ends_the_run_before_it_quantizes(
    arguments: tuple[str, ...], command: Callable[..., Called], store: Path, arithmetic: str
) -> None:
    sweep = f"short_{arithmetic}"
    done = command(*arguments, "eval.windows=5000", "bits=w8a16", f"sweep={sweep}")
    assert done.returncode == 1
    assert "enough for" in done.stderr
    assert "reduce the number of windows or their length" in done.stderr
    (record,) = records(store, sweep)
    assert (record["status"], record["stages"]) == ("failed", [])
