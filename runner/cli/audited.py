"""Overrides that ``runner audit BASE QUANTIZED`` stands for."""

import contextlib
from pathlib import Path

from runner.config.options import option_files
from runner.config.schema.audit import Audit, is_of_the_hub
from runner.config.words import quoted
from runner.engines import reader_of
from runner.errors import UsageError
from runner.planning.model_facts import model_facts


def overrides_of(base: str, checkpoint: str) -> list[str]:
    """The model, the checkpoint, and the engine that reads it best.

    Args:
        base: Option of group ``model``, path (``./NAME`` where an option is called so), or
            repository of the hub.
        checkpoint: Path or repository.
    """
    if base in option_files("model"):
        made = [f"model={base}"]
    elif is_of_the_hub(Path(base).expanduser()):
        made = ["model=hub", f"model.hub_id={quoted(base)}"]
    else:
        made = ["model=local", f"model.path={quoted(base)}"]
    made.append(f"audit.checkpoint={quoted(checkpoint)}")
    # What is wrong with it is told when it is judged.
    with contextlib.suppress(UsageError):
        facts = model_facts(Audit(checkpoint).model)
        made.append(f"engine={reader_of(facts.format).name}")
    return made
