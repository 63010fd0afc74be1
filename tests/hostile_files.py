"""Makes a model's files wrong, each in one way, beside a file that must not be opened."""

import contextlib
import json
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 16,
    "max_position_embeddings": 4096,
}


@dataclass(frozen=True)
class Hostile:
    """One way to be wrong."""

    make: Callable[[Path], None]
    """Turn a sound directory into this one."""
    named: str
    """What a refusal has to name."""
    allow_pickle: bool = False


def sound(directory: Path) -> Path:
    """A small directory that is as it should be, as far as files tell."""
    directory.mkdir(parents=True, exist_ok=True)
    write(directory / "config.json", CONFIG)
    names = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    save_file({name: np.ones((16, 8), np.float16) for name in names}, directory / SINGLE)
    write(directory / "tokenizer.json", {"model": {"type": "BPE", "vocab": {}, "merges": []}})
    write(directory / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    return directory


def write(file: Path, content: Any) -> None:
    """Write JSON in place of whatever is there."""
    file.unlink(missing_ok=True)
    file.write_text(json.dumps(content), "utf-8")


class Trap:
    """Makes a file when it is unpickled as an object."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.witness),)


def trap(file: Path) -> None:
    """A pickle that makes a folder ``sprung`` beside its own, if it is opened as one."""
    with zipfile.ZipFile(file, "w") as packed:
        content = pickle.dumps({"a.weight": Trap(file.parent.parent / "sprung")}, protocol=2)
        packed.writestr("archive/data.pkl", content)
        packed.writestr("archive/version", "3\n")
        packed.writestr("archive/byteorder", "little")


def config_of(**said: Any) -> Callable[[Path], None]:
    return lambda directory: write(directory / "config.json", {**CONFIG, **said})


def text_of(name: str, content: str | bytes) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def index_of(*names: Any, also: str | None = None) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / SINGLE).rename(directory / "kept.safetensors")
        if also:
            trap(directory / also)
        save_file({"s": np.ones((4, 4), np.float16)}, directory.parent / "secret.safetensors")
        places = {f"{number}.weight": name for number, name in enumerate(names)}
        write(directory / INDEX, {"weight_map": places})

    return make


def header_of(content: Any, body: int = 0, length: int | None = None) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        said = struct.pack("<Q", len(text) if length is None else length)
        (directory / SINGLE).write_bytes(said + text + bytes(body))

    return make


def tensor_of(shape: Any = (2,), offsets: Any = (0, 4), dtype: Any = "F16") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def pipe_at(name: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        os.mkfifo(directory / name)

    return make


def socket_at(name: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        here = Path.cwd()
        os.chdir(directory)  # a socket's path is short
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as opened:
                opened.bind(name)
        finally:
            os.chdir(here)

    return make


def link_at(name: str, target: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        (directory / name).symlink_to(target)

    return make


def then(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        for step in steps:
            step(directory)

    return make


def secret_at(name: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        write(directory.parent / "secret", {"token": "1234"})
        link_at(name, "../secret")(directory)

    return make


def folder_at(name: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        (directory / name).mkdir()

    return make


def sparse_at(name: str, size: int) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        with (directory / name).open("wb") as stream:
            stream.truncate(size)

    return make


def pickles_at(name: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / SINGLE).unlink()
        trap(directory / name)

    return make


def bomb(directory: Path) -> None:
    (directory / SINGLE).unlink()
    with zipfile.ZipFile(directory / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data.pkl", bytes(50_000_000))


def gguf(
    fields: bytes = b"", *, count: int = 0, tensors: int = 0, after: bytes = b"", version: int = 3
) -> bytes:
    """Bytes of a GGUF file's head."""
    return b"GGUF" + struct.pack("<IQQ", version, tensors, count) + fields + after


def field(name: str, kind: int, value: bytes) -> bytes:
    """A field of a GGUF file's head."""
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


def gguf_of(content: bytes) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / SINGLE).unlink()
        (directory / "config.json").unlink()
        (directory / "model.gguf").write_bytes(content)

    return make


HUGE = struct.pack("<Q", 1 << 60)
TEXT, ARRAY, U32, I32, F32 = 8, 9, 4, 5, 6


def gguf_saying(name: str, kind: int, value: bytes, group: str = "llama.") -> Hostile:
    """A file of one tensor that is whole but for a field."""
    llama = field("general.architecture", TEXT, struct.pack("<Q5s", 5, b"llama"))
    entry = struct.pack("<Q", 17) + b"token_embd.weight" + struct.pack("<IQQIQ", 2, 4, 4, 0, 0)
    content = llama + field(f"{group}{name}", kind, value)
    return Hostile(gguf_of(gguf(content, count=2, tensors=1, after=entry + bytes(200))), name)


ENTRY = struct.pack("<Q1sI2QIQ", 1, b"a", 2, 1 << 40, 1 << 40, 0, 0)
