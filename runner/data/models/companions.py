"""Files beside a model's weights that say how to use it, copied unchanged."""

import re
import shutil
from pathlib import Path

from runner.data.models.files import identifying_files, licences

# Those that tell readers how weights are stored, or are some: a checkpoint has its own.
_OF_WEIGHTS = re.compile(
    r"config\.json|.*\.index\.json|quantiz\w*config\.json|params\.json|adapter_\w+\.json"
    r"|.*\.(safetensors|gguf|bin|pt|pth|ckpt|h5|msgpack|onnx|ot)"
)


def companions(directory: Path, trust_remote_code: bool) -> set[Path]:
    """Tokenizer files, chat templates, generation and processor settings, code, licence."""
    names = identifying_files(directory, trust_remote_code) | licences(directory)
    return {path for path in names if not _OF_WEIGHTS.fullmatch(path.name)}


def copy_companions(source: Path, destination: Path, trust_remote_code: bool) -> None:
    """Let ``destination`` have the companions of ``source``, byte for byte, and no other ones.

    What a library wrote there of its own is what it made of them, or its defaults.

    Args:
        source: A model's directory.
        destination: Another, with weights and a config.json of its own.
        trust_remote_code: Whether code beside the model is used, which may read any file there.
    """
    for path in companions(destination, trust_remote_code=False):
        path.unlink()
    for path in companions(source, trust_remote_code):
        target = destination / path.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
