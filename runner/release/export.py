"""Writes a checkpoint as a directory of its own, with its model card."""

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from runner.config.schema.release import Release
from runner.errors import UsageError
from runner.release.card import Names, card, recipe_yaml
from runner.release.licence import licence_of
from runner.release.metadata import card_data, eval_results
from runner.release.remake import Remake
from runner.release.subject import Subject, licence_files

_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt")
README = "README.md"
RECIPE = "quant_runner.yaml"
RESULTS = ".eval_results"


@dataclass(frozen=True)
class Exported:
    """The files of an export, by their path below the directory."""

    texts: dict[str, str]
    """Those that are written."""
    files: dict[str, Path]
    """Those that are taken from the store, by where they lie there."""

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes by path, sorted."""
        found = {name: len(text.encode()) for name, text in self.texts.items()}
        found |= {name: place.stat().st_size for name, place in self.files.items()}
        return dict(sorted(found.items()))


def prepare(subject: Subject, checkpoint: str, remade: Remake, settings: Release) -> Exported:
    """What an export consists of; nothing is written.

    Args:
        subject: What is handed on.
        checkpoint: Repository, or the directory's name, for the card.
        remade: What makes it again.
        settings: What is said of it.
    """
    import yaml
    from huggingface_hub import eval_result_entries_to_yaml

    base_model = settings.base_model or subject.record.config["model"].get("hub_id")
    licence = licence_of(settings.licence, subject.base)
    name = checkpoint.rpartition("/")[2]
    data = card_data(subject, name, base_model, licence)
    texts = {
        README: card(subject, Names(checkpoint, base_model), remade, licence, data),
        RECIPE: f"# {remade.command}\n{recipe_yaml(subject)}",
    }
    for file, entries in eval_results(subject).items():
        content = eval_result_entries_to_yaml(entries)
        texts[f"{RESULTS}/{file}"] = yaml.safe_dump(content, sort_keys=False)
    files = {
        path.relative_to(subject.directory).as_posix(): path
        for path in sorted(subject.directory.rglob("*"))
        if path.is_file()
    }
    files |= {path.name: path for path in licence_files(subject) if path.name not in files}
    # Notes of the base model's maker are about another model.
    return Exported(texts, {name: path for name, path in files.items() if name not in texts})


def write(exported: Exported, directory: Path) -> None:
    """Write an export; the directory is there whole or not at all.

    Weights are hard links where the file system allows it: no second copy of gigabytes, of which
    an edit would damage the store's. Everything else, which people do edit, is copied.

    Raises:
        UsageError: The directory is there and not empty, or is no directory.
    """
    require_free(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = directory.parent / f".{directory.name}-{uuid.uuid4().hex[:8]}"
    try:
        staging.mkdir()
        for name, place in exported.files.items():
            _take(place, staging / name)
        for name, text in exported.texts.items():
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        staging.replace(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def require_free(directory: Path) -> None:
    """See that nothing would be overwritten.

    Raises:
        UsageError: Something would.
    """
    if directory.is_dir() and not any(directory.iterdir()):
        return
    if directory.exists() or directory.is_symlink():
        raise UsageError(f"{directory} is there already: name a new directory")


def _take(place: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = place.resolve()
    if source.suffix in _WEIGHTS:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    shutil.copyfile(source, target)
