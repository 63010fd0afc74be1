"""Which modules contain a model's matrices, and whether a method quantizes any of them.

Libraries look for layers by their class. What they do not find stays as it is without a word, so
it is counted on a model without weights before the work begins.
"""

import functools
import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from runner.errors import Refused
from runner.methods.base import Holder, ModelConfig
from runner.methods.recipe import Recipe


def skeleton(model_directory: Path, trust_remote_code: bool) -> Any:
    """The model without weights, on torch's meta device; not to be changed."""
    written = (model_directory / "config.json").stat().st_mtime_ns
    return _skeleton(model_directory, trust_remote_code, written)


@functools.lru_cache(maxsize=1)
def _skeleton(model_directory: Path, trust_remote_code: bool, written: int) -> Any:
    """Several of a job's checks look at the same one."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model_directory, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def require_holders(recipe: Recipe, model_directory: Path, trust_remote_code: bool) -> None:
    """Refuse a recipe whose method would quantize no weights of the model.

    A model that cannot be built like this is left to the method, which loads it in its own way.

    Raises:
        Refused: No matrix is held by a class that the backend looks for.
    """
    from runner.methods import capabilities_of

    looked_for = capabilities_of(recipe.method).holders
    if looked_for is None:
        return
    try:
        model = skeleton(model_directory, trust_remote_code)
    except Exception as error:
        if "does not recognize this architecture" in str(error):
            raise _unknown(recipe, model_directory) from error
        return
    counts = matrices_by_holder(model)
    if not counts or any(holder in looked_for for _, holder in counts):
        return
    names = ", ".join(sorted({name for name, _ in counts}))
    makers = _makers(
        recipe, model.config.get_text_config().to_dict(), {holder for _, holder in counts}
    )
    raise Refused(
        f"method={recipe.method.name} through {recipe.method.backend} would quantize no weights of "
        f"{type(model).__name__}: its matrices are in {names}, which the backend does not "
        f"quantize; try {makers}"
    )


def _unknown(recipe: Recipe, model_directory: Path) -> Refused:
    import transformers

    config = json.loads((model_directory / "config.json").read_text("utf-8"))
    return Refused(
        f"transformers {transformers.__version__}, which method.backend={recipe.method.backend} "
        f"needs, does not know models of type {config.get('model_type')}; try "
        f"{_makers(recipe, config, set(Holder), but=recipe.method.backend)}"
    )


def matrices_by_holder(model: Any) -> Counter[tuple[str, Holder | None]]:
    """Parameters in matrices by class and kind of what holds them, embeddings and heads aside."""
    import torch

    outside = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    counts: Counter[tuple[str, Holder | None]] = Counter()
    for module in model.modules():
        if id(module) in outside or isinstance(module, torch.nn.Embedding):
            continue
        for parameter in module.parameters(recurse=False):
            if sum(size > 1 for size in parameter.shape) >= 2:
                holder = _holder(module, parameter)
                counts[type(module).__name__, holder] += parameter.numel()
    return counts


def _holder(module: Any, parameter: Any) -> Holder | None:
    import torch
    from transformers.pytorch_utils import Conv1D

    if type(module) is torch.nn.Linear:
        return Holder.linear
    if isinstance(module, torch.nn.Linear):
        return Holder.linear_subclass
    if isinstance(module, Conv1D):
        return Holder.conv1d
    # What is left of two dimensions are routers and convolutions.
    return Holder.experts if parameter.dim() == 3 else None


def _makers(
    recipe: Recipe, config: ModelConfig, held: Collection[Holder | None], but: str | None = None
) -> str:
    """Methods that look for one of these holders, each with its first backend that does."""
    from runner.methods import quantizing_methods

    makers = []
    for name, method in quantizing_methods().items():
        for place, (backend, able) in enumerate(method.backends.items()):
            if backend == but or able.model_refusal(config):
                continue
            if able.holders is None or set(held).intersection(able.holders):
                same = name == recipe.method.name
                other = f"method.backend={backend}" if same or place else ""
                makers.append((not same, f"{'' if same else f'method={name}'} {other}".strip()))
                break
    return " or ".join(text for _, text in sorted(makers)) or "none"
