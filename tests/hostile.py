"""Directories that call themselves models and are not, each wrong in one way.

Every one is made beside a file that must not be opened (``secret``), and says what a refusal has
to name.
"""

import contextlib
import json
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
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


def _config(**said: Any) -> Callable[[Path], None]:
    return lambda directory: write(directory / "config.json", {**CONFIG, **said})


def _text(name: str, content: str | bytes) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def _index(*names: Any, also: str | None = None) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / SINGLE).rename(directory / "kept.safetensors")
        if also:
            trap(directory / also)
        save_file({"s": np.ones((4, 4), np.float16)}, directory.parent / "secret.safetensors")
        places = {f"{number}.weight": name for number, name in enumerate(names)}
        write(directory / INDEX, {"weight_map": places})

    return make


def _header(content: Any, body: int = 0, length: int | None = None) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        said = struct.pack("<Q", len(text) if length is None else length)
        (directory / SINGLE).write_bytes(said + text + bytes(body))

    return make


def _tensor(shape: Any = (2,), offsets: Any = (0, 4), dtype: Any = "F16") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def _pipe(name: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        os.mkfifo(directory / name)

    return make


def _socket(name: str) -> Callable[[Path], None]:
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


def _link(name: str, target: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        (directory / name).symlink_to(target)

    return make


def _then(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        for step in steps:
            step(directory)

    return make


def _secret(name: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        write(directory.parent / "secret", {"token": "1234"})
        _link(name, "../secret")(directory)

    return make


def _folder(name: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        (directory / name).mkdir()

    return make


def _sparse(name: str, size: int) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        with (directory / name).open("wb") as stream:
            stream.truncate(size)

    return make


def _pickles(name: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / SINGLE).unlink()
        trap(directory / name)

    return make


def _bomb(directory: Path) -> None:
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


def _gguf(content: bytes) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        (directory / SINGLE).unlink()
        (directory / "config.json").unlink()
        (directory / "model.gguf").write_bytes(content)

    return make


_HUGE = struct.pack("<Q", 1 << 60)
_TEXT, _ARRAY, _U32 = 8, 9, 4
_ENTRY = struct.pack("<Q1sI2QIQ", 1, b"a", 2, 1 << 40, 1 << 40, 0, 0)

HOSTILE = {
    # names of weights
    "index names a pickle": Hostile(
        _index("pytorch_model.bin", also="pytorch_model.bin"), "pytorch_model.bin"
    ),
    "index names a file beside": Hostile(_index("../secret.safetensors"), "../secret"),
    "index names an absolute path": Hostile(_index("/dev/zero"), "/dev/zero"),
    "index names a parent": Hostile(_index(".."), INDEX),
    "index names itself nothing": Hostile(_index(""), INDEX),
    "index names a number": Hostile(_index(7), INDEX),
    "index names a list": Hostile(_index(["a"]), INDEX),
    "index with NUL in a name": Hostile(_index("a\0.safetensors"), INDEX),
    "index names a script": Hostile(_index("run.py"), "run.py"),
    "index of a list": Hostile(_text(INDEX, "[]"), INDEX),
    "index is nested deeply": Hostile(_text(INDEX, '{"a":' * 100_000), INDEX),
    "config names weights beside": Hostile(
        _config(transformers_weights="../secret.safetensors"), "../secret"
    ),
    "config names a pickle": Hostile(
        _config(transformers_weights="pytorch_model.bin"), "pytorch_model.bin"
    ),
    "config names weights by a list": Hostile(
        _config(transformers_weights=["a"]), "transformers_weights"
    ),
    # links
    "weights are a link out": Hostile(_secret(SINGLE), SINGLE),
    "tokenizer is a link out": Hostile(_secret("tokenizer.json"), "tokenizer.json"),
    "config is a link out": Hostile(_secret("config.json"), "config.json"),
    "chat template is a link out": Hostile(_secret("chat_template.jinja"), "chat_template.jinja"),
    "vocabulary is a link out": Hostile(_secret("vocab.txt"), "vocab.txt"),
    "config is a link to itself": Hostile(_link("config.json", "config.json"), "config.json"),
    "weights are a link to nothing": Hostile(_link(SINGLE, "nothing"), SINGLE),
    "tokenizer is a device": Hostile(_link("tokenizer.json", "/dev/zero"), "tokenizer.json"),
    "weights are a device": Hostile(_link(SINGLE, "/dev/zero"), SINGLE),
    # what is no file
    "config is a pipe": Hostile(_pipe("config.json"), "config.json"),
    "weights are a pipe": Hostile(_pipe(SINGLE), SINGLE),
    "tokenizer is a pipe": Hostile(_pipe("tokenizer.json"), "tokenizer.json"),
    "settings are a socket": Hostile(_socket("tokenizer_config.json"), "tokenizer_config.json"),
    "weights are a folder": Hostile(_folder(SINGLE), SINGLE),
    "tokenizer is a folder": Hostile(_folder("tokenizer.json"), "tokenizer.json"),
    "config is empty": Hostile(_text("config.json", ""), "config.json"),
    "tokenizer is empty": Hostile(_text("tokenizer.json", ""), "tokenizer.json"),
    "config is a terabyte": Hostile(_sparse("config.json", 1 << 40), "config.json"),
    "tokenizer is a terabyte": Hostile(_sparse("tokenizer.json", 1 << 40), "tokenizer.json"),
    "merges are a terabyte": Hostile(_sparse("merges.txt", 1 << 40), "merges.txt"),
    # what is no JSON that all readers take for the same
    "config is nested deeply": Hostile(_text("config.json", '{"a":' * 100_000), "config.json"),
    "config is nested and closed": Hostile(
        _text("config.json", '{"a":' + "[" * 500 + "]" * 500 + "}"), "config.json"
    ),
    "config is cut off": Hostile(_text("config.json", '{"model_type": "lla'), "config.json"),
    "config is not UTF-8": Hostile(_text("config.json", b'{"model_type": "\xff"}'), "config.json"),
    "config is UTF-16": Hostile(_text("config.json", "{}".encode("utf-16")), "config.json"),
    "config has a mark": Hostile(_text("config.json", "\ufeff{}"), "config.json"),
    "config is a list": Hostile(_text("config.json", "[]"), "config.json"),
    "config has a key twice": Hostile(
        _text("config.json", '{"hidden_size": 8, "hidden_size": 80}'), "config.json"
    ),
    "config holds NaN": Hostile(_text("config.json", '{"hidden_size": NaN}'), "config.json"),
    "config holds a number of many digits": Hostile(
        _text("config.json", f'{{"hidden_size": {"9" * 10_000}}}'), "config.json"
    ),
    "tokenizer is cut off": Hostile(_text("tokenizer.json", '{"model": '), "tokenizer.json"),
    "tokenizer is a list": Hostile(_text("tokenizer.json", "[]"), "tokenizer.json"),
    "settings are a text": Hostile(_text("tokenizer_config.json", '"a"'), "tokenizer_config.json"),
    "generation settings are cut off": Hostile(
        _text("generation_config.json", "{"), "generation_config.json"
    ),
    # fields of the wrong kind
    "hidden size is a text": Hostile(_config(hidden_size="big"), "hidden_size"),
    "hidden size is negative": Hostile(_config(hidden_size=-1), "hidden_size"),
    "hidden size is huge": Hostile(_config(hidden_size=10**30), "hidden_size"),
    "hidden size is a fraction": Hostile(_config(hidden_size=8.5), "hidden_size"),
    "hidden size is true": Hostile(_config(hidden_size=True), "hidden_size"),
    "hidden size is infinite": Hostile(
        _text("config.json", '{"hidden_size": Infinity}'), "hidden_size"
    ),
    "no layers": Hostile(_config(num_hidden_layers=0), "num_hidden_layers"),
    "more layers than tensors": Hostile(_config(num_hidden_layers=90_000), "num_hidden_layers"),
    "a billion layers": Hostile(_config(num_hidden_layers=10**9), "num_hidden_layers"),
    "no heads": Hostile(_config(num_attention_heads=0), "num_attention_heads"),
    "more heads than width": Hostile(_config(num_attention_heads=999), "num_attention_heads"),
    "vocabulary is an object": Hostile(_config(vocab_size={}), "vocab_size"),
    "model type is a list": Hostile(_config(model_type=["llama"]), "model_type"),
    "text part is a text": Hostile(_config(text_config="llama"), "text_config"),
    "text part of wrong sizes": Hostile(_config(text_config={"hidden_size": "a"}), "hidden_size"),
    "quantization is a list": Hostile(_config(quantization_config=["gptq"]), "quantization_config"),
    "quantization of no name": Hostile(
        _config(quantization_config={"quant_method": 4}), "quant_method"
    ),
    "code map is a text": Hostile(_config(auto_map="a.B"), "auto_map"),
    "architectures are a number": Hostile(_config(architectures=7), "architectures"),
    # heads of safetensors
    "header of 2^60 bytes": Hostile(_header(b"{}", length=1 << 60), SINGLE),
    "header longer than the file": Hostile(_header(b"{}", length=1000), SINGLE),
    "header of no bytes": Hostile(_header(b"", length=0), SINGLE),
    "weights of three bytes": Hostile(_text(SINGLE, b"abc"), SINGLE),
    "header is a list": Hostile(_header([]), SINGLE),
    "header is nested deeply": Hostile(_header(b'{"a":' * 100_000), SINGLE),
    "offsets beyond the file": Hostile(_header({"a": _tensor(offsets=(0, 1 << 40))}), SINGLE),
    "offsets are negative": Hostile(_header({"a": _tensor(offsets=(-4, 0))}), SINGLE),
    "offsets are the wrong way": Hostile(_header({"a": _tensor(offsets=(4, 0))}, 4), SINGLE),
    "offsets are fractions": Hostile(_header({"a": _tensor(offsets=(0.0, 4.0))}, 4), SINGLE),
    "offsets overlap": Hostile(
        _header({"a": _tensor(), "b": _tensor((3,), (2, 8)), "c": _tensor((1,), (6, 8))}, 8), SINGLE
    ),
    "bytes of no tensor": Hostile(_header({"b": _tensor((2,), (4, 8))}, 8), SINGLE),
    "shape of another size": Hostile(_header({"a": _tensor((3,))}, 4), SINGLE),
    "shape is negative": Hostile(_header({"a": _tensor((-1, -2))}, 4), SINGLE),
    "shape is a text": Hostile(_header({"a": _tensor("2")}, 4), SINGLE),
    "shape of huge sizes": Hostile(_header({"a": _tensor((1 << 62, 4))}, 4), SINGLE),
    "type is unknown": Hostile(_header({"a": _tensor(dtype="F99")}, 4), SINGLE),
    "type is a list": Hostile(_header({"a": _tensor(dtype=["F16"])}, 4), SINGLE),
    "entry is a text": Hostile(_header({"a": "b"}), SINGLE),
    "tensor is there twice": Hostile(
        _header(b'{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},'
                b'"a":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}', 8), SINGLE
    ),
    "metadata of lists": Hostile(_header({"__metadata__": {"a": []}, "a": _tensor()}, 4), SINGLE),
    # pickles
    "pickles alone": Hostile(_pickles("pytorch_model.bin"), "pickled"),
    "pickles of another name": Hostile(_pickles("model.pt"), "model.pt", allow_pickle=True),
    "pickle is empty": Hostile(
        _then(_pickles("pytorch_model.bin"), _text("pytorch_model.bin", b"")),
        "pytorch_model.bin", allow_pickle=True
    ),
    "pickle is a device": Hostile(
        _then(_pickles("a.bin"), _link("pytorch_model.bin", "/dev/zero")),
        "pytorch_model.bin", allow_pickle=True,
    ),
    "pickle is packed": Hostile(_bomb, "pytorch_model.bin", allow_pickle=True),
    "pickle with code": Hostile(_pickles("pytorch_model.bin"), "mkdir", allow_pickle=True),
    # adapters and code
    "adapter beside weights": Hostile(
        _text("adapter_config.json", '{"base_model_name_or_path": "/etc"}'), "adapter_config.json"
    ),
    "needs code": Hostile(
        _config(model_type="mine", auto_map={"AutoConfig": "mine.Config"}), "trust_remote_code"
    ),
    # GGUF
    "GGUF of no bytes": Hostile(_gguf(b""), "model.gguf"),
    "GGUF of its name alone": Hostile(_gguf(b"GGUF"), "model.gguf"),
    "GGUF of another version": Hostile(_gguf(gguf(version=99)), "model.gguf"),
    "GGUF of 2^60 fields": Hostile(_gguf(gguf(count=1 << 60)), "model.gguf"),
    "GGUF of 2^60 tensors": Hostile(_gguf(gguf(tensors=1 << 60)), "model.gguf"),
    "GGUF text longer than the file": Hostile(
        _gguf(gguf(field("a", _TEXT, _HUGE), count=1)), "model.gguf"
    ),
    "GGUF array longer than the file": Hostile(
        _gguf(gguf(field("a", _ARRAY, struct.pack("<I", _U32) + _HUGE), count=1)), "model.gguf"
    ),
    "GGUF arrays in arrays": Hostile(
        _gguf(gguf(field("a", _ARRAY, struct.pack("<IQ", _ARRAY, 1) * 100_000), count=1)),
        "model.gguf",
    ),
    "GGUF of an unknown kind of field": Hostile(
        _gguf(gguf(field("a", 77, bytes(8)), count=1)), "model.gguf"
    ),
    "GGUF name is not UTF-8": Hostile(
        _gguf(gguf(struct.pack("<Q", 1) + b"\xff" + bytes(8), count=1)), "model.gguf"
    ),
    "GGUF field is there twice": Hostile(
        _gguf(gguf(field("a", _U32, bytes(4)) * 2, count=2)), "model.gguf"
    ),
    "GGUF aligned to a text": Hostile(
        _gguf(gguf(field("general.alignment", _TEXT, bytes(8)), count=1)), "model.gguf"
    ),
    "GGUF aligned to nothing": Hostile(
        _gguf(gguf(field("general.alignment", _U32, bytes(4)), count=1)), "model.gguf"
    ),
    "GGUF tensor beyond the file": Hostile(_gguf(gguf(tensors=1, after=_ENTRY)), "model.gguf"),
    "GGUF tensors in each other": Hostile(
        _gguf(
            gguf(
                tensors=2,
                after=b"".join(
                    struct.pack("<Q1sIQIQ", 1, name, 1, 64, 0, 0) for name in (b"a", b"b")
                )
                + bytes(1000),
            )
        ),
        "model.gguf",
    ),
    "GGUF is a pipe": Hostile(
        _then(_gguf(b""), _pipe("model.gguf")), "model.gguf"
    ),
    "GGUF is a link out": Hostile(
        _then(_gguf(b""), _secret("model.gguf")), "model.gguf"
    ),
}  # fmt: skip
"""Ways to be wrong, by what they are."""


def hostile_directories(place: Path) -> Iterator[tuple[str, Path]]:
    """Make each below a folder: its name and where it lies."""
    for number, (name, one) in enumerate(HOSTILE.items()):
        directory = sound(place / f"{number:03}" / "model")
        one.make(directory)
        yield name, directory
