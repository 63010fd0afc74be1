"""Where the checkpoints of a run lie."""

from dataclasses import dataclass, field


@dataclass
class Placement:
    """Where the checkpoints of a run lie, and what its engine ran with: what serving them takes."""

    checkpoints: dict[str, str]
    """Directory by subject (see ``StageRecord.subject``); below the store relative to its root."""
    programs: str | None
    """Folder of the interpreter of the engine's environment; ``None`` where there was none."""
    device: str
    """``cpu`` or ``cuda``."""
    dtype: str
    """Torch dtype name that speed is measured in, or ``auto`` for the checkpoint's own."""
    weight_bytes: dict[str, int] = field(default_factory=dict)
    """Size of the files of weights before any conversion, by subject; empty in older records."""
