"""Losses of windows from many articles, which tests of intervals and of gates draw from.

``python -m benchmarks.article_losses``: the default model and recipes of it score six windows
of 64 tokens of every second article of the default evaluation text, spread evenly over the
article, in float32 by engine ``hf``. Writes ``tests/unit/data/article_losses.json``. Twenty
minutes.
"""

import json
from pathlib import Path
from typing import Any

from runner import keep_workers, run

_TOKENS, _WINDOWS = 64, 6
_PLACE = Path("tests/unit/data/article_losses.json")
_RECIPES = (
    ("method=rtn",),
    ("method=rtn", "method.sym=false"),
    ("method=rtn", "bits=w8a16"),
    ("method=bnb_4bit",),
    *(("method=gptq", f"calibration.seed={seed}") for seed in range(4)),
)
"""GPTQ of several seeds is the same recipe every time: what sets those apart is chance."""


def measure() -> str:
    """Score and write; tells how much."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    from runner.data.texts.windows import read_documents_file, tokenizer_of

    names, places = [], []
    with keep_workers():
        for recipe in _RECIPES:
            result = run([*recipe, "stages=[quantize]", "engine.dtype=float32", "tracker=none"])
            objects = Path(result.record.config["store"]["root"]).expanduser() / "objects"
            names.append(" ".join(recipe))
            places.append(objects / "quantize" / result.record.stages[0].key / "checkpoint")
    directory = _newest(objects / "model", "package:") / "model"
    tokenizer = tokenizer_of(directory, trust_remote_code=False)
    documents = read_documents_file(_newest(objects / "text", 'wikipedia"'))
    articles = {}
    for number, document in enumerate(documents):
        ids = tokenizer(document)["input_ids"]
        step = len(ids) // _WINDOWS
        if step >= _TOKENS and number % 2 == 0:
            articles[number] = [ids[i * step : i * step + _TOKENS] for i in range(_WINDOWS)]
    base, *models = (
        AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
        for place in (directory, *places)
    )
    rows = []
    for number, windows in articles.items():
        ids = torch.tensor(windows)
        with torch.inference_mode():
            dense = base(ids).logits[:, :-1].log_softmax(-1)
            values = [_losses(dense, ids)]
            for model in models:
                own = model(ids).logits[:, :-1].log_softmax(-1)
                values += [_losses(own, ids), (dense.exp() * (dense - own)).sum(-1).mean(-1)]
        found = torch.stack(values, -1).numpy().astype(np.float64)
        rows.append({"article": number, "windows": np.round(found, 6).tolist()})
        print(number, found.mean(0), flush=True)
    content = {
        "made_by": "python -m benchmarks.article_losses",
        "model": "smollm2_135m",
        "recipes": names,
        "arithmetic": "float32",
        "window_tokens": _TOKENS,
        "fields": ["unquantized loss", "then of each recipe: loss, KL divergence"],
        "unit": "nats a token, mean of a window",
        "articles": rows,
    }
    _PLACE.parent.mkdir(exist_ok=True)
    _PLACE.write_text(json.dumps(content).replace('{"article"', '\n{"article"') + "\n", "utf-8")
    return f"{len(rows)} articles of {_WINDOWS} windows of {_TOKENS} tokens in {_PLACE}"


def _losses(log_probabilities: Any, ids: Any) -> Any:
    """Mean loss of each window's tokens but the first."""
    return -log_probabilities.gather(-1, ids[:, 1:, None])[..., 0].mean(-1)


def _newest(folder: Path, mark: str) -> Path:
    """The store's newest result whose seal names this."""
    seals = sorted(folder.glob("*/seal.json"), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in seals if f'"{mark}' in path.read_text("utf-8")][-1]


if __name__ == "__main__":
    print(measure())
