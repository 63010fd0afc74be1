"""``runner export``: a run's checkpoint as a directory of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.release import hand_on, subject_of, tell_files
from runner.util.shown import tell

if TYPE_CHECKING:
    from runner.config.schema.root import Config

USAGE = """\
Usage: runner export SWEEP/RUN DIR [GROUP.FIELD=VALUE] ...

Writes the checkpoint of a run into a directory of its own, with a model card
(README.md): how it was made, how good and how fast it is, and the command that
makes it again. Weights are hard links where the file system has them.

Examples
  runner export four/gptq my_model
  runner export four/2 my_model release.licence=apache-2.0 release.base_model=org/base
  runner export four/2 my_model dry_run=true     list the files only

Fields
  release.base_model=ORG/NAME   base model on the hub, for the card; by default the
                                one that the model was loaded from
  release.licence=ID            as the hub names it; by default that of the base
                                model's README
  store.root=PATH               another store
"""


def execute(arguments: Sequence[str]) -> int:
    """Carry out ``runner export ARGUMENTS``; returns the exit code."""
    return hand_on("export", arguments, USAGE, ("SWEEP/RUN", "DIR"), _export)


def _export(config: "Config", wanted: str, place: str) -> None:
    from runner.api import compose_config
    from runner.release.export import prepare, require_free, write
    from runner.release.remake import remake

    directory = Path(place).expanduser().absolute()
    require_free(directory)
    subject = subject_of(config, wanted)
    remade = remake(subject.record, compose_config)
    exported = prepare(subject, directory.name, remade, config.release)
    tell_files(exported.sizes)
    if config.dry_run:
        tell(f"{subject.name} would be written to {directory}")
        return
    write(exported, directory)
    tell(f"{subject.name}: {directory}")
    tell(f"to make it again: {remade.command}")
