"""Makes models saved by transformers 5 readable by transformers 4.51."""

import json
from pathlib import Path
from typing import Any

from runner.methods.base import QuantizeJob

_REWRITTEN = ("config.json", "tokenizer_config.json")


def legacy_view(job: QuantizeJob) -> Path:
    """A directory beside the model that transformers 4.51 can load; weights are linked.

    Returns:
        A new directory in the job's scratch directory.
    """
    view = job.scratch / "legacy_model"
    view.mkdir()
    for path in job.model_directory.iterdir():
        if path.name not in _REWRITTEN:
            (view / path.name).symlink_to(path.resolve())
    _rewrite(job.model_directory, view, "config.json", _config)
    if (job.model_directory / "tokenizer_config.json").exists():
        _rewrite(job.model_directory, view, "tokenizer_config.json", _tokenizer_config)
    return view


def _rewrite(source: Path, view: Path, name: str, change: Any) -> None:
    content = json.loads((source / name).read_text("utf-8"))
    change(content)
    (view / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _config(config: dict[str, Any]) -> None:
    if "dtype" in config:
        config.setdefault("torch_dtype", config["dtype"])
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict):
        return
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in rope:
            config.setdefault(name, rope[name])
    if rope.get("rope_type", "default") != "default":
        scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
        config.setdefault("rope_scaling", scaling)


def _tokenizer_config(config: dict[str, Any]) -> None:
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config.setdefault("additional_special_tokens", config.pop("extra_special_tokens"))
