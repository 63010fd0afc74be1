"""``runner publish``: a run's checkpoint on the hub."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.release import hand_on, subject_of, tell_files
from runner.util.shown import tell

if TYPE_CHECKING:
    from runner.config.schema.root import Config

USAGE = """\
Usage: runner publish SWEEP/RUN ORG/NAME [GROUP.FIELD=VALUE] ...

Sends the same files to the hub, to a private repository unless release.private=false.
Log in with `hf auth login`, or set HF_TOKEN.

Examples
  runner publish four/gptq my_org/my_model dry_run=true    list the files only
  runner publish four/gptq my_org/my_model
  runner publish four/gptq my_org/my_model release.private=false release.revision=w4

Fields
  release.private=false         a public repository
  release.revision=BRANCH       another branch than the main one
  release.base_model=ORG/NAME   base model on the hub, for the card; by default the
                                one that the model was loaded from
  release.licence=ID            as the hub names it; by default that of the base
                                model's README
  store.root=PATH               another store
"""


def execute(arguments: Sequence[str]) -> int:
    """Carry out ``runner publish ARGUMENTS``; returns the exit code."""
    return hand_on("publish", arguments, USAGE, ("SWEEP/RUN", "ORG/NAME"), _publish)


def _publish(config: "Config", wanted: str, repository: str) -> None:
    from runner.api import compose_config
    from runner.release.export import prepare, write
    from runner.release.publish import require_repository, send
    from runner.release.remake import remake

    require_repository(repository)
    subject = subject_of(config, wanted)
    settings = config.release
    exported = prepare(subject, repository, remake(subject.record, compose_config), settings)
    tell_files(exported.sizes)
    seen_by = "private where it is new" if settings.private else "public"
    if config.dry_run:
        tell(f"{subject.name} would be sent to {repository} ({seen_by})")
        return
    with tempfile.TemporaryDirectory(prefix="release-", dir=subject.directory.parents[3]) as made:
        folder = Path(made) / repository.rpartition("/")[2]
        write(exported, folder)
        address = send(
            folder,
            repository,
            private=settings.private,
            revision=settings.revision,
            about=f"{subject.record.label} by Quant Runner",
        )
    tell(f"{subject.name}: {address}")
