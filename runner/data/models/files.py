"""Which files of a model's directory are read, and faults of those files.

Every reader goes by this list: the digest of a model, its check, what a checkpoint is given, and
the view of the directory that libraries are handed.
"""

import fnmatch
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from runner.data.models.config_json import read_config
from runner.data.models.safetensors_header import LFS_POINTER, POINTER_COMPLAINT
from runner.util.given import MB, FileFault, open_regular, read_object, require_regular, shown

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npz", ".npy")
"""How files end that may hold pickled objects, which run code when they are opened as such."""
_OTHER_WEIGHTS = (".safetensors", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".pb", ".tflite")
_READ = (
    "*.json", "*.jinja", "*.py", "*.model", "*.tiktoken", "*.bpe", "*.spm",
    "tokenizer*", "vocab*", "merges*", "added_tokens*", "special_tokens*", "dict.txt",
)  # fmt: skip
"""What a config, a tokenizer, a chat template or code can come from, besides the weights."""
_TEMPLATES = ("additional_chat_templates", "chat_templates")
"""Folders of more of them."""
_DOCUMENTS = ("*.md", "README*", "LICENSE*", "NOTICE*", "USE_POLICY*", ".*")
"""What not even a model's own code is taken to read."""
_LICENCES = ("LICENSE*", "NOTICE*", "USE_POLICY*")
_PICTURES = (".png", ".jpg", ".jpeg", ".svg", ".gif", ".pdf")
_PARSED = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "chat_template.json",
    "preprocessor_config.json", "processor_config.json", "tekken.json", "quantize_config.json",
    "quant_config.json", "*.index.json", "adapter_config.json",
)  # fmt: skip
"""JSON that somebody parses; other files are only carried along."""
_OBJECTS_APART = ("tokenizer.json", "vocab.json", "tekken.json", "*.index.json")
"""Those of them that grow with the vocabulary or the number of tensors."""
_MOST_POINTER_BYTES = 1024
_MOST_BYTES, _MOST_SETTINGS_BYTES = 256 * MB, 16 * MB
_IS_A_FILE = (".json", ".jinja", ".py", ".model", ".tiktoken", ".bpe", ".spm", ".txt")


def identifying_files(directory: Path, trust_remote_code: bool) -> set[Path]:
    """Files beside the weights that can change a result.

    They are whatever a config, a tokenizer, a chat template or code comes from. Code that is
    trusted may read any file beside it, so all of those count too.
    """
    everything = trust_remote_code and ships_code(directory)
    return {path for path in _candidates(directory, everything) if path.is_file()}


def licences(directory: Path) -> set[Path]:
    """Files that say under which terms a model is used."""
    return {path for path in _entries(directory) if _is_any(path, _LICENCES) and path.is_file()}


def ships_code(directory: Path) -> bool:
    """Whether there is Python beside a model."""
    return any(path.suffix == ".py" for path in _entries(directory))


def is_harmless(path: Path) -> bool:
    """Whether no library opens an entry of a model's directory: documents, pictures, licences."""
    return _is_any(path, _DOCUMENTS) or path.suffix.lower() in _PICTURES


def fault(directory: Path, trust_remote_code: bool) -> str | None:
    """What is wrong with the files beside the weights; ``None`` when they can be read.

    Each is a regular file, lies in the directory once links are followed, and is of a size that
    makes sense; JSON is JSON.

    Args:
        directory: The model's.
        trust_remote_code: Whether code beside the model is used, which may read any file there.
    """
    everything = trust_remote_code and ships_code(directory)
    for path in _candidates(directory, everything):
        try:
            status = require_own(directory, path)
            if not everything and status.st_size > _MOST_BYTES:
                raise FileFault(path, f"is larger than {_MOST_BYTES / MB:g} MB")
            if status.st_size < _MOST_POINTER_BYTES:
                _require_no_pointer(path)
            if _is_any(path, _PARSED):
                _parse(path, status.st_size, status.st_mtime_ns)
        except FileFault as error:
            return f"cannot be read: {shown(path.relative_to(directory))} {error.what}"
    return None


def require_own(directory: Path, path: Path) -> os.stat_result:
    """See that a file is a regular one of a directory's own; returns its status.

    Raises:
        FileFault: It lies elsewhere, or is something else.
    """
    require_inside(directory, path)
    return require_regular(path)


def require_inside(directory: Path, path: Path) -> None:
    """See that a file lies in a directory, behind all links.

    A snapshot of the hub's cache is made of links into the repository's own ``blobs``.

    Raises:
        FileFault: It lies elsewhere.
    """
    root, real = (Path(os.path.realpath(place)) for place in (directory, path))
    if real.is_relative_to(root):
        return
    cached = root.parent
    if cached.name == "snapshots" and real.is_relative_to(cached.parent / "blobs"):
        return
    raise FileFault(
        path,
        f"is a link to {shown(real)}, outside the directory: put the file itself there, or set "
        "model.path to the directory that holds the files",
    )


@functools.lru_cache(maxsize=256)
def _sound(path: Path, _size: int, _changed: int) -> str | None:
    grows = _is_any(path, _OBJECTS_APART)
    try:
        if path.name == "config.json":
            read_config(path)
        else:
            read_object(path, _MOST_BYTES if grows else _MOST_SETTINGS_BYTES)
    except FileFault as error:
        return error.what
    return None


def _parse(path: Path, size: int, changed: int) -> None:
    if what := _sound(path, size, changed):
        raise FileFault(path, what)


def _require_no_pointer(path: Path) -> None:
    """A clone without Git LFS leaves these in place of tokenizers too."""
    with open_regular(path) as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise FileFault(path, POINTER_COMPLAINT)


def _candidates(directory: Path, everything: bool) -> Iterator[Path]:
    """Entries by whose names they are read, be they files or not."""
    for path in _entries(directory):
        suffix = path.suffix.lower()
        if suffix in PICKLES or suffix in _OTHER_WEIGHTS or _is_any(path, _DOCUMENTS):
            continue
        if path.is_dir() and suffix not in _IS_A_FILE:
            if path.name in _TEMPLATES:
                yield from (one for one in _entries(path) if one.suffix == ".jinja")
        elif everything or _is_any(path, _READ):
            yield path


def _entries(directory: Path) -> list[Path]:
    return [directory / name for name in sorted(os.listdir(directory))]  # noqa: PTH208


def _is_any(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path.name, pattern) for pattern in patterns)
