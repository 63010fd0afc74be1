"""Settings of stage ``audit``."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from runner.config.bounds import bounded
from runner.config.schema.model import Model, ModelKind

_OF_THE_HUB = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass
class Audit:
    """A quantized checkpoint that exists, whoever made it, to measure beside its base model."""

    checkpoint: Optional[str] = None
    """Directory in Hugging Face layout, GGUF file, or repository of the hub (``owner/name``)."""
    file: Optional[str] = None
    """GGUF file to use from a repository or a directory."""
    revision: str = "main"
    """Branch, tag or commit of the repository."""
    name: Optional[str] = bounded(None, shortened=True)
    """Its name in tables; that of the directory, file or repository by default."""

    @property
    def model(self) -> Model:
        """The same as a model's section."""
        asked = str(self.checkpoint)
        name = self.label
        if is_of_the_hub(Path(asked).expanduser()):
            return Model(name=name, kind=ModelKind.hub, hub_id=asked, revision=self.revision,
                         file=self.file)  # fmt: skip
        return Model(name=name, kind=ModelKind.local, path=asked, file=self.file)

    @property
    def label(self) -> str:
        """What it is called."""
        if self.name is not None:
            return self.name
        path = Path(str(self.checkpoint)).expanduser().absolute()
        return path.stem if path.suffix == ".gguf" else path.name


def is_of_the_hub(place: Path) -> bool:
    """Whether what was given names a repository of the hub: what exists is a path."""
    return _OF_THE_HUB.fullmatch(str(place)) is not None and not place.exists()
