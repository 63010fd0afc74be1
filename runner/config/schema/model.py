"""The model to quantize: its source and its shape."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from omegaconf import MISSING

from runner.config.bounds import BYTES, SEED, bounded
from runner.config.schema.architecture import Architecture


class ModelKind(Enum):
    """Where a model's weights come from."""

    package = "package"
    hub = "hub"
    local = "local"
    generated = "generated"

    @property
    def fields(self) -> frozenset[str]:
        """Fields that a model of this kind reads and some other kind does not."""
        return _OF_KIND[self]


class ByteTokenizer(Enum):
    """How a generated model's tokenizer, of one token a byte, is written."""

    byte_fallback = "byte_fallback"
    """Bytes by Llama's names."""
    sentencepiece = "sentencepiece"
    """The same, and as a SentencePiece file too."""
    byte_level = "byte_level"
    """Bytes by GPT-2's names; rows of the vocabulary that are left have no token."""


_OF_KIND = {
    ModelKind.package: frozenset({"package", "version", "member", "members", "sha256"}),
    ModelKind.hub: frozenset({"hub_id", "revision", "file", "allow_pickle"}),
    ModelKind.local: frozenset({"path", "file", "allow_pickle"}),
    ModelKind.generated: frozenset({"seed", "config", "tokenizer", "special_tokens"}),
}


@dataclass
class Part:
    """A file of a distribution on the package index that is a part of another file."""

    package: str = MISSING
    """Distribution name on the package index."""
    version: str = MISSING
    member: str = MISSING
    """Path of the file inside the package's wheel."""


@dataclass
class Model:
    """A model of one of four kinds, with the fields of that kind."""

    name: str = MISSING
    kind: ModelKind = MISSING
    architecture: Architecture = field(default_factory=Architecture)

    published_as: Optional[str] = None
    """Recipe of a plan in which the weights are published, where its config.json is not at hand;
    ``None``: in 16 bits."""

    hub_id: Optional[str] = None
    """Hugging Face repository, ``owner/name`` (kind hub)."""
    revision: str = "main"
    """Branch, tag or commit of the repository (kind hub)."""
    path: Optional[str] = None
    """Directory in Hugging Face layout, or a GGUF file or a directory with one (kind local)."""
    file: Optional[str] = None
    """GGUF file to use from a repository or a directory (kinds hub and local)."""
    package: Optional[str] = None
    """Distribution name on the package index (kind package)."""
    version: Optional[str] = None
    member: Optional[str] = None
    """Path of the GGUF file inside the package's wheel (kind package)."""
    members: list[Part] = field(default_factory=list)
    """Instead of ``package``, ``version`` and ``member``: the parts of the file in order, if
    several distributions contain it (kind package)."""
    sha256: Optional[str] = None
    """Checksum of the whole GGUF file (kind package)."""
    seed: int = bounded(0, most=SEED)
    """Seed of the random weights (kind generated)."""
    config: dict[str, Any] = bounded(factory=dict, least=-BYTES, most=BYTES, prose=True)
    """Values of the generated ``config.json``, including ``model_type``; if empty, a Llama with
    ``architecture`` (kind generated)."""
    tokenizer: ByteTokenizer = ByteTokenizer.byte_fallback
    """How the tokenizer represents bytes (kind generated)."""
    special_tokens: list[str] = field(default_factory=list)
    """Special tokens in addition to BOS and EOS: llama.cpp requires some families' own (kind
    generated)."""
    trust_remote_code: bool = False
    """Run Python code shipped with the model. Enable it only for models that you trust."""

    allow_pickle: bool = False
    """Accept pickled weights (``pytorch_model.bin``) if there is no safetensors file: they are read
    as data only (``weights_only``) and stored as safetensors first (kinds hub and local)."""

    def unread(self) -> dict[str, str]:
        """Fields that have no effect on this model, each with the reason."""
        others = frozenset().union(*_OF_KIND.values()) - self.kind.fields
        return {
            field: f"is {self.name}, of kind {self.kind.value}, which does not read {field}"
            for field in sorted(others)
        }
