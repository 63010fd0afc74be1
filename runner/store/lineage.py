"""The weights that a recipe's checkpoints were made from, to detect changes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.config.schema.model import Model, ModelKind
from runner.store.checked_files import read_kept
from runner.store.files import sha256_of_json, write_json_atomically

_OF_THE_MODEL = ("model", "calibration_windows")
"""Determinants of a checkpoint that follow from the model's files."""


class Lineage:
    """One recipe on the model of one place: a file ``lineage/<key>.json`` below the store's root.

    The place is a directory or a hub id with its revision: where weights can change under the
    same name. Models from packages and generators cannot, and have no lineage.
    """

    def __init__(self, root: Path, model: Model, determinants: dict[str, Any]) -> None:
        """Of the checkpoint that ``determinants`` determine."""
        self._fingerprint = determinants["model"]
        others = {key: value for key, value in determinants.items() if key not in _OF_THE_MODEL}
        place = [model.hub_id, model.revision]
        if model.kind is ModelKind.local:
            place = [str(Path(str(model.path)).expanduser().resolve())]
        key = sha256_of_json([place, others])[:20]
        self._file = root / "lineage" / f"{key}.json"
        self._can_change = model.kind in (ModelKind.local, ModelKind.hub)

    def made_from_other_weights(self) -> str | None:
        """When (UTC) the last checkpoint was made, if it was made from other weights."""
        known = read_kept(self._file) or {}
        before, now = str(known.get("fingerprint", "")), self._fingerprint
        # Fingerprints of another kind were taken of other files: nothing is known.
        comparable = before.partition(":")[0] == now.partition(":")[0]
        return str(known.get("made")) if comparable and before != now else None

    def note(self) -> None:
        """There is a checkpoint of these weights now."""
        if not self._can_change:
            return
        if (read_kept(self._file) or {}).get("fingerprint") == self._fingerprint:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json_atomically(self._file, {"fingerprint": self._fingerprint, "made": now})
