"""Directories that call themselves models and are not, each wrong in one way.

Every one is made beside a file that must not be opened (``secret``), and says what a refusal has
to name.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from tests.hostile_files import (
    ARRAY,
    ENTRY,
    F32,
    HUGE,
    I32,
    INDEX,
    SINGLE,
    TEXT,
    U32,
    Hostile,
    bomb,
    config_of,
    field,
    folder_at,
    gguf,
    gguf_of,
    gguf_saying,
    header_of,
    index_of,
    link_at,
    pickles_at,
    pipe_at,
    secret_at,
    socket_at,
    sound,
    sparse_at,
    tensor_of,
    text_of,
    then,
)

HOSTILE = {
    # names of weights
    "index names a pickle": Hostile(
        index_of("pytorch_model.bin", also="pytorch_model.bin"), "pytorch_model.bin"
    ),
    "index names a file beside": Hostile(index_of("../secret.safetensors"), "../secret"),
    "index names an absolute path": Hostile(index_of("/dev/zero"), "/dev/zero"),
    "index names a parent": Hostile(index_of(".."), INDEX),
    "index names itself nothing": Hostile(index_of(""), INDEX),
    "index names a number": Hostile(index_of(7), INDEX),
    "index names a list": Hostile(index_of(["a"]), INDEX),
    "index with NUL in a name": Hostile(index_of("a\0.safetensors"), INDEX),
    "index names a script": Hostile(index_of("run.py"), "run.py"),
    "index of a list": Hostile(text_of(INDEX, "[]"), INDEX),
    "index is nested deeply": Hostile(text_of(INDEX, '{"a":' * 100_000), INDEX),
    "config names weights beside": Hostile(
        config_of(transformers_weights="../secret.safetensors"), "../secret"
    ),
    "config names a pickle": Hostile(
        config_of(transformers_weights="pytorch_model.bin"), "pytorch_model.bin"
    ),
    "config names weights by a list": Hostile(
        config_of(transformers_weights=["a"]), "transformers_weights"
    ),
    # links
    "weights are a link out": Hostile(secret_at(SINGLE), SINGLE),
    "tokenizer is a link out": Hostile(secret_at("tokenizer.json"), "tokenizer.json"),
    "config is a link out": Hostile(secret_at("config.json"), "config.json"),
    "chat template is a link out": Hostile(secret_at("chat_template.jinja"), "chat_template.jinja"),
    "vocabulary is a link out": Hostile(secret_at("vocab.txt"), "vocab.txt"),
    "config is a link to itself": Hostile(link_at("config.json", "config.json"), "config.json"),
    "weights are a link to nothing": Hostile(link_at(SINGLE, "nothing"), SINGLE),
    "tokenizer is a device": Hostile(link_at("tokenizer.json", "/dev/zero"), "tokenizer.json"),
    "weights are a device": Hostile(link_at(SINGLE, "/dev/zero"), SINGLE),
    # what is no file
    "config is a pipe": Hostile(pipe_at("config.json"), "config.json"),
    "weights are a pipe": Hostile(pipe_at(SINGLE), SINGLE),
    "tokenizer is a pipe": Hostile(pipe_at("tokenizer.json"), "tokenizer.json"),
    "settings are a socket": Hostile(socket_at("tokenizer_config.json"), "tokenizer_config.json"),
    "weights are a folder": Hostile(folder_at(SINGLE), SINGLE),
    "tokenizer is a folder": Hostile(folder_at("tokenizer.json"), "tokenizer.json"),
    "config is empty": Hostile(text_of("config.json", ""), "config.json"),
    "tokenizer is empty": Hostile(text_of("tokenizer.json", ""), "tokenizer.json"),
    "config is a terabyte": Hostile(sparse_at("config.json", 1 << 40), "config.json"),
    "tokenizer is a terabyte": Hostile(sparse_at("tokenizer.json", 1 << 40), "tokenizer.json"),
    "merges are a terabyte": Hostile(sparse_at("merges.txt", 1 << 40), "merges.txt"),
    # what is no JSON that all readers take for the same
    "config is nested deeply": Hostile(text_of("config.json", '{"a":' * 100_000), "config.json"),
    "config is nested and closed": Hostile(
        text_of("config.json", '{"a":' + "[" * 500 + "]" * 500 + "}"), "config.json"
    ),
    "config is cut off": Hostile(text_of("config.json", '{"model_type": "lla'), "config.json"),
    "config is not UTF-8": Hostile(
        text_of("config.json", b'{"model_type": "\xff"}'), "config.json"
    ),
    "config is UTF-16": Hostile(text_of("config.json", "{}".encode("utf-16")), "config.json"),
    "config has a mark": Hostile(text_of("config.json", "\ufeff{}"), "config.json"),
    "config is a list": Hostile(text_of("config.json", "[]"), "config.json"),
    "config has a key twice": Hostile(
        text_of("config.json", '{"hidden_size": 8, "hidden_size": 80}'), "config.json"
    ),
    "config holds NaN": Hostile(text_of("config.json", '{"hidden_size": NaN}'), "config.json"),
    "config holds a number of many digits": Hostile(
        text_of("config.json", f'{{"hidden_size": {"9" * 10_000}}}'), "config.json"
    ),
    "tokenizer is cut off": Hostile(text_of("tokenizer.json", '{"model": '), "tokenizer.json"),
    "tokenizer is a list": Hostile(text_of("tokenizer.json", "[]"), "tokenizer.json"),
    "settings are a text": Hostile(
        text_of("tokenizer_config.json", '"a"'), "tokenizer_config.json"
    ),
    "generation settings are cut off": Hostile(
        text_of("generation_config.json", "{"), "generation_config.json"
    ),
    # fields of the wrong kind
    "hidden size is a text": Hostile(config_of(hidden_size="big"), "hidden_size"),
    "hidden size is negative": Hostile(config_of(hidden_size=-1), "hidden_size"),
    "hidden size is huge": Hostile(config_of(hidden_size=10**30), "hidden_size"),
    "hidden size is a fraction": Hostile(config_of(hidden_size=8.5), "hidden_size"),
    "hidden size is true": Hostile(config_of(hidden_size=True), "hidden_size"),
    "hidden size is infinite": Hostile(
        text_of("config.json", '{"hidden_size": Infinity}'), "hidden_size"
    ),
    "no layers": Hostile(config_of(num_hidden_layers=0), "num_hidden_layers"),
    "more layers than tensors": Hostile(config_of(num_hidden_layers=90_000), "num_hidden_layers"),
    "a billion layers": Hostile(config_of(num_hidden_layers=10**9), "num_hidden_layers"),
    "no heads": Hostile(config_of(num_attention_heads=0), "num_attention_heads"),
    "more heads than width": Hostile(config_of(num_attention_heads=999), "num_attention_heads"),
    "vocabulary is an object": Hostile(config_of(vocab_size={}), "vocab_size"),
    "model type is a list": Hostile(config_of(model_type=["llama"]), "model_type"),
    "text part is a text": Hostile(config_of(text_config="llama"), "text_config"),
    "text part of wrong sizes": Hostile(config_of(text_config={"hidden_size": "a"}), "hidden_size"),
    "quantization is a list": Hostile(
        config_of(quantization_config=["gptq"]), "quantization_config"
    ),
    "quantization of no name": Hostile(
        config_of(quantization_config={"quant_method": 4}), "quant_method"
    ),
    "code map is a text": Hostile(config_of(auto_map="a.B"), "auto_map"),
    "architectures are a number": Hostile(config_of(architectures=7), "architectures"),
    "kernels of a repository": Hostile(
        config_of(attn_implementation="owner/kernel"), "attn_implementation"
    ),
    "kernels of a repository, by part": Hostile(
        config_of(text_config={"_attn_implementation": {"": "owner/kernel"}}),
        "_attn_implementation"
    ),
    # heads of safetensors
    "header of 2^60 bytes": Hostile(header_of(b"{}", length=1 << 60), SINGLE),
    "header longer than the file": Hostile(header_of(b"{}", length=1000), SINGLE),
    "header of no bytes": Hostile(header_of(b"", length=0), SINGLE),
    "weights of three bytes": Hostile(text_of(SINGLE, b"abc"), SINGLE),
    "header is a list": Hostile(header_of([]), SINGLE),
    "header is nested deeply": Hostile(header_of(b'{"a":' * 100_000), SINGLE),
    "offsets beyond the file": Hostile(header_of({"a": tensor_of(offsets=(0, 1 << 40))}), SINGLE),
    "offsets are negative": Hostile(header_of({"a": tensor_of(offsets=(-4, 0))}), SINGLE),
    "offsets are the wrong way": Hostile(header_of({"a": tensor_of(offsets=(4, 0))}, 4), SINGLE),
    "offsets are fractions": Hostile(header_of({"a": tensor_of(offsets=(0.0, 4.0))}, 4), SINGLE),
    "offsets overlap": Hostile(
        header_of({"a": tensor_of(), "b": tensor_of((3,), (2, 8)), "c": tensor_of((1,), (6, 8))},
        8),
        SINGLE
    ),
    "bytes of no tensor": Hostile(header_of({"b": tensor_of((2,), (4, 8))}, 8), SINGLE),
    "shape of another size": Hostile(header_of({"a": tensor_of((3,))}, 4), SINGLE),
    "shape is negative": Hostile(header_of({"a": tensor_of((-1, -2))}, 4), SINGLE),
    "shape is a text": Hostile(header_of({"a": tensor_of("2")}, 4), SINGLE),
    "shape of huge sizes": Hostile(header_of({"a": tensor_of((1 << 62, 4))}, 4), SINGLE),
    "type is unknown": Hostile(header_of({"a": tensor_of(dtype="F99")}, 4), SINGLE),
    "type is a list": Hostile(header_of({"a": tensor_of(dtype=["F16"])}, 4), SINGLE),
    "entry is a text": Hostile(header_of({"a": "b"}), SINGLE),
    "tensor is there twice": Hostile(
        header_of(b'{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},'
                b'"a":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}', 8), SINGLE
    ),
    "metadata of lists": Hostile(
        header_of({"__metadata__": {"a": []}, "a": tensor_of()}, 4), SINGLE
    ),
    # pickles
    "pickles alone": Hostile(pickles_at("pytorch_model.bin"), "pickled"),
    "pickles of another name": Hostile(pickles_at("model.pt"), "model.pt", allow_pickle=True),
    "pickle is empty": Hostile(
        then(pickles_at("pytorch_model.bin"), text_of("pytorch_model.bin", b"")),
        "pytorch_model.bin", allow_pickle=True
    ),
    "pickle is a device": Hostile(
        then(pickles_at("a.bin"), link_at("pytorch_model.bin", "/dev/zero")),
        "pytorch_model.bin", allow_pickle=True,
    ),
    "pickle is packed": Hostile(bomb, "pytorch_model.bin", allow_pickle=True),
    "pickle with code": Hostile(pickles_at("pytorch_model.bin"), "mkdir", allow_pickle=True),
    # adapters and code
    "adapter beside weights": Hostile(
        text_of("adapter_config.json", '{"base_model_name_or_path": "/etc"}'), "adapter_config.json"
    ),
    "needs code": Hostile(
        config_of(model_type="mine", auto_map={"AutoConfig": "mine.Config"}), "trust_remote_code"
    ),
    # GGUF
    "GGUF of no bytes": Hostile(gguf_of(b""), "model.gguf"),
    "GGUF of its name alone": Hostile(gguf_of(b"GGUF"), "model.gguf"),
    "GGUF of another version": Hostile(gguf_of(gguf(version=99)), "model.gguf"),
    "GGUF of 2^60 fields": Hostile(gguf_of(gguf(count=1 << 60)), "model.gguf"),
    "GGUF of 2^60 tensors": Hostile(gguf_of(gguf(tensors=1 << 60)), "model.gguf"),
    "GGUF text longer than the file": Hostile(
        gguf_of(gguf(field("a", TEXT, HUGE), count=1)), "model.gguf"
    ),
    "GGUF array longer than the file": Hostile(
        gguf_of(gguf(field("a", ARRAY, struct.pack("<I", U32) + HUGE), count=1)), "model.gguf"
    ),
    "GGUF arrays in arrays": Hostile(
        gguf_of(gguf(field("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 100_000), count=1)),
        "model.gguf",
    ),
    "GGUF of an unknown kind of field": Hostile(
        gguf_of(gguf(field("a", 77, bytes(8)), count=1)), "model.gguf"
    ),
    "GGUF name is not UTF-8": Hostile(
        gguf_of(gguf(struct.pack("<Q", 1) + b"\xff" + bytes(8), count=1)), "model.gguf"
    ),
    "GGUF field is there twice": Hostile(
        gguf_of(gguf(field("a", U32, bytes(4)) * 2, count=2)), "model.gguf"
    ),
    "GGUF aligned to a text": Hostile(
        gguf_of(gguf(field("general.alignment", TEXT, bytes(8)), count=1)), "model.gguf"
    ),
    "GGUF aligned to nothing": Hostile(
        gguf_of(gguf(field("general.alignment", U32, bytes(4)), count=1)), "model.gguf"
    ),
    "GGUF tensor beyond the file": Hostile(gguf_of(gguf(tensors=1, after=ENTRY)), "model.gguf"),
    "GGUF tensors in each other": Hostile(
        gguf_of(
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
    "GGUF layers are a text": gguf_saying("block_count", TEXT, struct.pack("<Q4s", 4, b"many")),
    "GGUF layers are negative": gguf_saying("block_count", I32, struct.pack("<i", -1)),
    "GGUF layers are more than tensors": gguf_saying("block_count", U32, struct.pack("<I", 99)),
    "GGUF heads are none": gguf_saying("attention.head_count", U32, bytes(4)),
    "GGUF width is a list": gguf_saying("embedding_length", ARRAY, struct.pack("<IQ", U32, 0)),
    "GGUF epsilon is no number": gguf_saying(
        "attention.layer_norm_rms_epsilon", F32, struct.pack("<f", float("nan"))
    ),
    "GGUF tokens are numbers": gguf_saying(
        "tokens", ARRAY, struct.pack("<IQI", U32, 1, 7), "tokenizer.ggml."
    ),
    "GGUF template is a number": gguf_saying("chat_template", U32, bytes(4), "tokenizer."),
    "GGUF is a pipe": Hostile(
        then(gguf_of(b""), pipe_at("model.gguf")), "model.gguf"
    ),
    "GGUF is a link out": Hostile(
        then(gguf_of(b""), secret_at("model.gguf")), "model.gguf"
    ),
}  # fmt: skip
"""Ways to be wrong, by what they are."""


def hostile_directories(place: Path) -> Iterator[tuple[str, Path]]:
    """Make each below a folder: its name and where it lies."""
    for number, (name, one) in enumerate(HOSTILE.items()):
        directory = sound(place / f"{number:03}" / "model")
        one.make(directory)
        yield name, directory
