"""Makes models saved by transformers 5 readable by transformers 4.51."""

import json
from pathlib import Path
from typing import Any

from runner.data.models import generation
from runner.data.models.older_names import add_older_config_names, add_older_tokenizer_names
from runner.methods.base import QuantizeJob

_REWRITTEN = ("config.json", "tokenizer_config.json")
"""Files with other content there. Generation settings, which can stop a load, are left out."""


def legacy_view(job: QuantizeJob) -> Path:
    """A directory beside the model that transformers 4.51 can load; weights are linked.

    Returns:
        A new directory in the job's scratch directory.
    """
    view = job.scratch / "legacy_model"
    view.mkdir()
    for path in job.model_directory.iterdir():
        if path.name not in (*_REWRITTEN, generation.FILE):
            (view / path.name).symlink_to(path.resolve())
    _rewrite(job.model_directory, view, "config.json", add_older_config_names)
    if (job.model_directory / "tokenizer_config.json").exists():
        _rewrite(job.model_directory, view, "tokenizer_config.json", add_older_tokenizer_names)
    return view


def _rewrite(source: Path, view: Path, name: str, change: Any) -> None:
    content = json.loads((source / name).read_text("utf-8"))
    change(content)
    (view / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
