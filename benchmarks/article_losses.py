"""Losses of windows from many articles, which tests of intervals draw from.

``python -m benchmarks.article_losses``: the default model and its 4-bit rounding score six
windows of 64 tokens of every second article of the default evaluation text, spread evenly
over the article, in float32 by engine ``hf``. Writes
``tests/unit/data/article_losses.json``. Five minutes.
"""

import json
from pathlib import Path
from typing import Any

from runner import run

_TOKENS, _WINDOWS = 64, 6
_PLACE = Path("tests/unit/data/article_losses.json")


def measure() -> str:
    """Score and write; tells how much."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    from runner.data.texts.windows import read_documents_file, tokenizer_of

    arguments = ["method=rtn", "stages=[quantize]", "engine.dtype=float32", "tracker=none"]
    result = run(arguments)
    objects = Path(result.record.config["store"]["root"]).expanduser() / "objects"
    directory = _newest(objects / "model", "package:") / "model"
    checkpoint = objects / "quantize" / result.record.stages[0].key / "checkpoint"
    tokenizer = tokenizer_of(directory, trust_remote_code=False)
    documents = read_documents_file(_newest(objects / "text", 'wikipedia"'))
    articles = {}
    for number, document in enumerate(documents):
        ids = tokenizer(document)["input_ids"]
        step = len(ids) // _WINDOWS
        if step >= _TOKENS and number % 2 == 0:
            articles[number] = [ids[i * step : i * step + _TOKENS] for i in range(_WINDOWS)]
    batches = {number: torch.tensor(windows) for number, windows in articles.items()}
    models: list[Any] = [
        AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
        for place in (directory, checkpoint)
    ]
    rows = []
    for done, (number, ids) in enumerate(batches.items()):
        with torch.inference_mode():
            base, own = (model(ids).logits[:, :-1].log_softmax(-1) for model in models)
        targets = ids[:, 1:, None]
        losses = [-side.gather(-1, targets)[..., 0].mean(-1) for side in (base, own)]
        divergence = (base.exp() * (base - own)).sum(-1).mean(-1)
        values = torch.stack([*losses, divergence], -1).numpy().astype(np.float64)
        rows.append({"article": number, "windows": np.round(values, 6).tolist()})
        print(done, number, values.mean(0), flush=True)
    content = {
        "made_by": "python -m benchmarks.article_losses",
        "model": "smollm2_135m",
        "recipe": result.record.label,
        "arithmetic": "float32",
        "window_tokens": _TOKENS,
        "fields": ["unquantized loss", "recipe's loss", "KL divergence"],
        "unit": "nats a token, mean of a window",
        "articles": rows,
    }
    _PLACE.parent.mkdir(exist_ok=True)
    _PLACE.write_text(json.dumps(content).replace('{"article"', '\n{"article"') + "\n", "utf-8")
    return f"{len(rows)} articles of {_WINDOWS} windows of {_TOKENS} tokens in {_PLACE}"


def _newest(folder: Path, mark: str) -> Path:
    """The store's newest result whose seal names this."""
    seals = sorted(folder.glob("*/seal.json"), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in seals if f'"{mark}' in path.read_text("utf-8")][-1]


if __name__ == "__main__":
    print(measure())
