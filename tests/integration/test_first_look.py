"""The ready sweep ``first_look`` on the default model: the numbers a user would act on.

On short windows and few calibration samples, which leaves its conclusions standing, and without
speeds, which ``test_main_job`` and ``test_bench`` look at. GPTQ runs at the harder of its two
widths only: each takes minutes.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.conftest import SAME, base_model, determinants, here

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]

_PLAIN_LOOP = """
import json, sys
import numpy, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model_directory, documents, dtype, length, count = sys.argv[1:]
length, count = int(length), int(count)
text = "\\n\\n".join(json.loads(line) for line in open(documents, encoding="utf-8"))
ids = AutoTokenizer.from_pretrained(model_directory)(text, verbose=False)["input_ids"]
model = AutoModelForCausalLM.from_pretrained(model_directory, dtype=dtype).eval()
losses = []
with torch.inference_mode():
    for start in range(0, length * count, length):
        window = torch.tensor([ids[start : start + length]])
        losses.append(model(input_ids=window, labels=window).loss.item())
assert not any(name.startswith("runner") for name in sys.modules)
print(numpy.exp(numpy.mean(losses)))
"""


@pytest.fixture(scope="module")
def rows(
    store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Rows of the answer by recipe."""
    done = here(
        "-cn", "first_look", "stages=[quantize,eval]", "sweep=look", "eval.windows=4",
        "eval.protocols=[gptq]", "eval.context_length=256", "calibration.samples=16",
        "calibration.sequence_length=256",
        "hydra.sweeper.exclude=[{method: gptq, bits: w4a16}]",
        cwd=tmp_path_factory.mktemp("first_look"), variables=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads((store / "runs" / "look" / "answer.json").read_text())
    return {row["recipe"]: row for row in answer["rows"]}


def test_every_run_of_first_look_is_ok(rows: dict[str, dict[str, Any]]) -> None:
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert set(rows) == {
        "unquantized",
        "rtn-w8a16-g64,sym=false",
        "rtn-w4a16-g64,sym=false",
        "rtn-w3a16-g64,sym=false",
        "gptq-w3a16-g64,sym=false",
        "bnb_4bit-nf4-g64",
        "llm_int8-w8a8-per_channel",
    }


def test_gptq_beats_rounding(rows: dict[str, dict[str, Any]]) -> None:
    gptq, rtn = (rows[f"{method}-w3a16-g64,sym=false"] for method in ("gptq", "rtn"))
    assert gptq["kl_divergence"] < 0.9 * rtn["kl_divergence"]
    assert gptq["perplexity"] < rtn["perplexity"]


def test_eight_bits_are_nearly_lossless(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["rtn-w8a16-g64,sym=false"]["perplexity_ratio"] == pytest.approx(1.0, abs=0.01)


def test_bits_per_weight_are_what_the_formats_cost(rows: dict[str, dict[str, Any]]) -> None:
    # bits + a 16-bit scale and a zero point for every 64 weights; NF4 has a 32-bit scale.
    expected = {
        "rtn-w8a16-g64,sym=false": 8 + 16 / 64 + 8 / 64,
        "rtn-w4a16-g64,sym=false": 4 + 16 / 64 + 4 / 64,
        "gptq-w3a16-g64,sym=false": 3 + 16 / 64 + 3 / 64,
        "bnb_4bit-nf4-g64": 4 + 32 / 64,
    }
    for recipe, bits in expected.items():
        assert rows[recipe]["bits_per_weight"] == pytest.approx(bits, abs=0.01)


def test_unquantized_perplexity_equals_a_plain_transformers_loop(
    store: Path, rows: dict[str, dict[str, Any]]
) -> None:
    record = json.loads(next((store / "runs" / "look").glob("000-*/record.json")).read_text())
    (measured,) = (s for s in record["stages"] if s["stage"] == "eval")
    result = measured["result"]
    dtype = result["arithmetic"]
    model = base_model(store, record)
    text = determinants(store / "objects" / "eval" / measured["key"])["text"]
    documents = store / "objects" / "text" / text / "documents.jsonl"
    plain = subprocess.run(
        [sys.executable, "-c", _PLAIN_LOOP, str(model), str(documents), dtype, "256",
         str(result["perplexity"]["windows"])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert rows["unquantized"]["perplexity"] == pytest.approx(float(plain.stdout), rel=SAME[dtype])
    assert np.exp(np.mean(result["perplexity"]["window_losses"])) == pytest.approx(
        result["perplexity"]["value"]
    )
