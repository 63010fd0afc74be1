"""What scoring a window costs on top of the bare forward pass that yields its logits."""

import time
from pathlib import Path

from runner import run
from runner.engines import find_engine
from runner.engines.base import LoadSpec

_REPETITIONS = 7
_TOKENS = 512


def measure() -> str:
    """Median of token losses over median of a forward pass, interleaved on the same tokens."""
    import torch

    result = run(["method=none", "stages=[eval]", "eval=quick", "tracker=none"])
    store = Path(result.record.config["store"]["root"]).expanduser()
    directory = max(store.glob("objects/model/*/model"), key=lambda path: path.stat().st_mtime)
    loaded = find_engine("hf").load(LoadSpec(directory, "cpu", "float32", False))
    ids = torch.randint(0, 49000, (_TOKENS,), generator=torch.Generator().manual_seed(0)).tolist()
    scoring, forward = [], []
    loaded.token_losses(ids)
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        loaded.token_losses(ids)
        middle = time.perf_counter()
        with torch.inference_mode():
            loaded.model(input_ids=torch.tensor([ids]), use_cache=False)
        scoring.append(middle - start)
        forward.append(time.perf_counter() - middle)
    ratio = sorted(scoring)[_REPETITIONS // 2] / sorted(forward)[_REPETITIONS // 2]
    spread = sorted(a / b for a, b in zip(scoring, forward, strict=True))
    return (
        f"scoring a window of {_TOKENS} tokens: {ratio:.3f} times the bare forward pass "
        f"(single pairs {spread[0]:.3f} to {spread[-1]:.3f})"
    )
