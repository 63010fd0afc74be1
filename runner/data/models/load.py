"""Loads causal language models with transformers, and accounts for every tensor."""

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.data.models.generation import generation_options
from runner.errors import StageError

_SHOWN = 5
_OF_OTHER_SENSES = re.compile(
    r"(^|\.)(vision|visual|audio|speech|image|multi_modal|multimodal|mm_)\w*\."
)
"""Towers of models that also see or hear, where the language model alone is loaded."""


def load_model(
    directory: Path | str, *, read_elsewhere: Collection[str] = (), **options: Any
) -> Any:
    """``AutoModelForCausalLM.from_pretrained`` on safetensors, or a GGUF file, and no less.

    Tensors that are missing would otherwise be drawn at random, with a line in a log.

    Args:
        directory: The model's, or its name on the hub.
        read_elsewhere: Tensors in the files that are no part of the model.
        options: Of ``from_pretrained``.

    Raises:
        StageError: Tensors are missing, left over or of another shape.
    """
    from transformers import AutoModelForCausalLM

    if "gguf_file" not in options:
        options["use_safetensors"] = True
    options = {**generation_options(Path(directory)), **options}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            directory, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except RuntimeError as error:
        if "conversion of the weights" not in str(error):
            raise
        raise StageError(
            f"{directory} cannot be loaded: transformers cannot make the model's weights of its "
            "tensors; some are missing or of another shape (the log lists them)"
        ) from error
    left_over = [name for name in report["unexpected_keys"] if name not in read_elsewhere]
    account({**report, "unexpected_keys": left_over}, Path(directory))
    return model


@contextlib.contextmanager
def accounted(directory: Path) -> Iterator[None]:
    """Account for every tensor of what a library loads through transformers meanwhile.

    Raises:
        StageError: See ``account``.
    """
    from transformers import PreTrainedModel

    method = PreTrainedModel.__dict__["from_pretrained"]

    def from_pretrained(cls: Any, *arguments: Any, **options: Any) -> Any:
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        model, report = method.__func__(cls, *arguments, **options)
        account(report, directory)
        return model

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)
    try:
        yield
    finally:
        PreTrainedModel.from_pretrained = method


def account(report: Mapping[str, Any], directory: Path) -> None:
    """See that nothing is amiss in transformers' loading report.

    What an architecture is known to do without is not in it: tied heads, rotary buffers, layers
    for multi-token prediction.

    Args:
        report: Of ``from_pretrained(output_loading_info=True)``.
        directory: What was loaded, for the message.

    Raises:
        StageError: Tensors are missing, left over or of another shape.
    """
    missing = sorted(map(str, report["missing_keys"]))
    left_over = map(str, report["unexpected_keys"])
    unexpected = sorted(name for name in left_over if not _OF_OTHER_SENSES.search(name))
    mismatched = sorted(_mismatch(entry) for entry in report["mismatched_keys"])
    problems = []
    if missing:
        problems.append(f"lacks {listed(missing)}")
    if mismatched:
        problems.append(f"contains {listed(mismatched)}")
    if unexpected:
        problems.append(f"contains {listed(unexpected)}, which the model does not have")
    problems += [str(message) for message in report.get("error_msgs") or []]
    if problems:
        raise StageError(
            f"{directory} {'; '.join(problems)}: the weights are not those of the model that "
            "config.json describes, or not all of them; download or save them again"
        )


def _mismatch(entry: Any) -> str:
    if isinstance(entry, str):
        return f"{entry} of another shape than config.json says"
    name, stored, wanted = entry
    return f"{name} of shape {list(stored)} where config.json says {list(wanted)}"


def listed(names: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    every = list(names)
    shown = ", ".join(every[:_SHOWN])
    return shown if len(every) <= _SHOWN else f"{shown} and {len(every) - _SHOWN} more"
