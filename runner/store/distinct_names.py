"""Gives records distinct names, so that they can be grouped by name."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from runner.store.records import RunRecord

_WEIGHTS = ("kind", "hub_id", "revision", "path", "package", "version", "member", "sha256", "seed")
"""Fields of a model that decide its weights; of a generated one its dimensions do too."""


@dataclass(frozen=True)
class _Called:
    """A name, and what sets the thing apart from others of that name."""

    name: str
    fields: dict[str, Any]
    content: str | None = None
    """Digest of what it is, which then decides whatever it is called and wherever it lies."""

    @property
    def identity(self) -> str:
        return self.content or repr(sorted(self.fields.items(), key=lambda item: item[0]))


def tell_apart(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records, with models, evaluated texts and calibration texts named apart where needed.

    A name stays what it is unless another of these records calls something else so. Then a
    directory or file is called by as many last parts of its path as it takes (``a/model`` and
    ``b/model``), and anything else by the fields that differ (``tiny (seed=1)``).
    """
    models = _names([_Called(r.model, _model_fields(r.config.get("model", {}))) for r in records])
    texts = _names(_texts(records))
    labels = _names([_Called(r.label, {"path": _calibration_paths(r)}) for r in records])
    return [_renamed(*one) for one in zip(records, models, texts, labels, strict=True)]


def is_same_model(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two recorded configurations of a model mean the same weights."""
    return _model_fields(one) == _model_fields(other)


def _renamed(record: RunRecord, model: str, text: str, label: str) -> RunRecord:
    if (model, text, label) == (record.model, _text_name(record), record.label):
        return record
    config = copy(record.config)
    if text != _text_name(record):
        config["eval"] = {**config["eval"], "text": {**config["eval"]["text"], "name": text}}
    return replace(record, model=model, label=label, config=config)


def _names(called: list[_Called]) -> list[str]:
    by_name: dict[str, dict[str, _Called]] = {}
    for one in called:
        by_name.setdefault(one.name, {})[one.identity] = one
    names: dict[tuple[str, str], str] = {}
    for name, alike in by_name.items():
        distinct = [name] if len(alike) == 1 else _told(name, list(alike.values()))
        names |= {(name, identity): one for identity, one in zip(alike, distinct, strict=True)}
    return [names[one.name, one.identity] for one in called]


def _told(name: str, alike: list[_Called]) -> list[str]:
    """Names of different things that were called alike."""
    keys = sorted({key for one in alike for key in one.fields})
    differing = [key for key in keys if len({repr(one.fields.get(key)) for one in alike}) > 1]
    paths = [one.fields.get("path") for one in alike]
    if len(set(paths)) == len(alike):
        differing = ["path"]
    shortened = _shortest(paths)
    if differing == ["path"] and all(path and PurePath(path).name == name for path in paths):
        return [str(path) for path in shortened]
    fields = [{**one.fields, "path": path} for one, path in zip(alike, shortened, strict=True)]
    said = [
        ", ".join(_said(key, own[key]) for key in differing if own.get(key) not in (None, {}))
        for own in fields
    ]
    return [f"{name} ({one})" if one else name for one in said]


def _said(key: str, value: Any) -> str:
    if key == "path":
        return str(value)
    if key == "sha256":
        return f"sha256={str(value)[:8]}"
    if key == "architecture":
        return "architecture: " + " ".join(f"{name}={size}" for name, size in value.items())
    return f"{key}={value}"


def _shortest(paths: Sequence[str | None]) -> list[str | None]:
    """Each path by as many of its last parts as set all of them apart."""
    parts = [None if path is None else PurePath(path).parts for path in paths]
    most = max((len(one) for one in parts if one is not None), default=1)
    by_count = (
        [None if one is None else str(PurePath(*one[-count:])) for one in parts]
        for count in range(1, most + 1)
    )
    return next((ends for ends in by_count if len(set(ends)) == len(set(paths))), list(paths))


def _model_fields(model: dict[str, Any]) -> dict[str, Any]:
    fields = {name: model.get(name) for name in _WEIGHTS if model.get(name) is not None}
    if "path" in fields:
        fields["path"] = str(PurePath(str(fields["path"])))
    if model.get("kind") == "generated":
        fields["architecture"] = {
            name: size
            for name, size in model.get("architecture", {}).items()
            if size is not None and name != "parameters"
        }
    return fields


def _text_name(record: RunRecord) -> str:
    name: str = record.config.get("eval", {}).get("text", {}).get("name") or ""
    return name


def _texts(records: Sequence[RunRecord]) -> list[_Called]:
    """Evaluated texts; one that was not read is what others of that name and path were."""
    paths = [r.config.get("eval", {}).get("text", {}).get("path") for r in records]
    known: dict[tuple[str, str | None], str] = {}
    for record, path in zip(records, paths, strict=True):
        if record.text_sha256 is not None:
            known.setdefault((_text_name(record), path), record.text_sha256)
    called = []
    for record, path in zip(records, paths, strict=True):
        name = _text_name(record)
        sha256 = record.text_sha256 or known.get((name, path))
        fields = {"path": path and str(PurePath(str(path))), "sha256": sha256}
        called.append(_Called(name, {k: v for k, v in fields.items() if v}, sha256))
    return called


def _calibration_paths(record: RunRecord) -> str | None:
    """Files that the recipe's label names, one after the other; none where it names no text."""
    if "calibration=" not in record.label:
        return None
    calibration = record.config.get("calibration", {})
    stated = [calibration.get("text"), *(s.get("text") for s in calibration.get("sources") or [])]
    texts = [text for text in stated if isinstance(text, dict) and text.get("path")]
    return "+".join(str(PurePath(str(text["path"]))) for text in texts) or None
