"""What is said of a checkpoint that is handed on, and who may see it."""

from dataclasses import dataclass
from typing import Optional


@dataclass
class Release:
    """Settings of ``runner export`` and ``runner publish``."""

    base_model: Optional[str] = None
    """Repository of the base model on the hub, ``owner/name``, for the model card; by default the
    one that the model was loaded from."""
    licence: Optional[str] = None
    """Licence of the checkpoint, as the hub names them (``apache-2.0``, ``llama3.1``); by default
    what the base model's README says."""
    private: bool = True
    """Whether a repository that ``runner publish`` creates is private."""
    revision: Optional[str] = None
    """Branch of the repository to publish to; the main one by default."""
