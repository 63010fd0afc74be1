"""Which files of a directory are its weights, and what is said of those that cannot be told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.config.schema.model import Model, ModelKind
from runner.data.models.header import Header
from runner.data.models.locate import light_config, locate
from runner.data.models.parts import incomplete
from runner.data.models.tensors import report_tensors
from runner.data.models.view import _make, only_read
from runner.data.models.weights import stored_dtype, weight_file_bytes, weight_files
from runner.errors import UsageError

pytestmark = pytest.mark.unit

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def tensors(*names: str, dtype: Any = np.float16, size: int = 8) -> dict[str, np.ndarray]:
    return {name: np.zeros((size, size), dtype) for name in names}


def single(directory: Path, name: str = "model.safetensors") -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text('{"model_type": "llama"}')
    save_file(tensors("a.weight", "b.weight"), directory / name)
    return directory


def sharded(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text('{"model_type": "llama"}')
    save_file(tensors("a.weight"), directory / ONE)
    save_file(tensors("b.weight"), directory / TWO)
    index(directory, {"a.weight": ONE, "b.weight": TWO})
    return directory


def index(directory: Path, weight_map: dict[str, str]) -> None:
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def local(directory: Path) -> Model:
    return Model(name="local", kind=ModelKind.local, path=str(directory))


@pytest.mark.parametrize("make", [single, sharded])
@pytest.mark.parametrize(
    "beside",
    [
        "consolidated.safetensors", "model.fp16.safetensors", "model-00001-of-00009.safetensors",
        "diffusion_pytorch_model.safetensors", "original/model.safetensors",
    ],
)  # fmt: skip
def test_other_weights_in_the_directory_are_not_counted(
    make: Any, beside: str, tmp_path: Path
) -> None:
    directory = make(tmp_path / "m")
    files, size, report = weight_files(directory), weight_file_bytes(directory), 256
    assert report_tensors(directory).bytes == report
    (directory / beside).parent.mkdir(exist_ok=True)
    save_file(tensors("other", size=64), directory / beside)
    assert (weight_files(directory), weight_file_bytes(directory)) == (files, size)
    assert report_tensors(directory).bytes == report
    assert locate(local(directory)) == directory.resolve()


def test_loaders_that_take_every_file_are_shown_those_that_are_meant(tmp_path: Path) -> None:
    directory = single(tmp_path / "m")
    assert only_read(directory, tmp_path / "cache") == directory
    save_file(tensors("a"), directory / "consolidated.safetensors")
    (directory / "pytorch_model.bin").write_bytes(b"pickle")
    view = only_read(directory, tmp_path / "cache")
    assert sorted(path.name for path in view.iterdir()) == ["config.json", "model.safetensors"]
    assert weight_file_bytes(view) == weight_file_bytes(directory)
    (directory / "config.json").write_text("{}")
    assert only_read(directory, tmp_path / "cache") == view
    assert (view / "config.json").read_text() == "{}"
    (directory / "tokenizer.json").write_text("{}")
    assert (only_read(directory, tmp_path / "cache") / "tokenizer.json").is_file()


def test_two_processes_may_make_the_same_view(tmp_path: Path) -> None:
    view = tmp_path / "views" / "key" / "m"
    for _ in range(2):
        _make(view, {"config.json": "/a", "deep/b.json": "/b"}, None)
        assert sorted(path.name for path in (tmp_path / "views").iterdir()) == ["key"]
    assert (view / "deep" / "b.json").readlink() == Path("/b")
    with pytest.raises(OSError, match="not empty"):
        _make(view.with_name("other"), {"config.json": "/a"}, None)


def test_weights_are_where_config_says(tmp_path: Path) -> None:
    directory = single(tmp_path / "m", "mine.safetensors")
    (directory / "config.json").write_text('{"transformers_weights": "mine.safetensors"}')
    save_file(tensors("c.weight"), directory / "model.safetensors")
    assert weight_files(directory) == [directory / "mine.safetensors"]
    locate(local(directory))


def test_an_index_of_another_name_is_where_config_says(tmp_path: Path) -> None:
    directory = sharded(tmp_path / "m")
    (directory / INDEX).rename(directory / "mine.safetensors.index.json")
    (directory / "config.json").write_text(
        '{"transformers_weights": "mine.safetensors.index.json"}'
    )
    assert weight_files(directory) == [directory / ONE, directory / TWO]
    locate(local(directory))
    (directory / "config.json").write_text(
        '{"transformers_weights": "../mine.safetensors.index.json"}'
    )
    with pytest.raises(UsageError, match="outside the directory"):
        locate(local(directory))


def test_the_scale_of_scales_of_nvfp4_is_needed() -> None:
    def lost(scale: str, *more: str) -> list[str]:
        headers = {"a.weight_packed": Header("U8", 8, 8, (8,)), "a.weight_scale": Header(
            scale, 1, 1, (1,))}  # fmt: skip
        return incomplete(headers | {f"a.{name}": Header("F32", 1, 4, (1,)) for name in more})

    assert lost("F8_E4M3") == ["a.weight_global_scale"]
    assert lost("F8_E4M3", "weight_global_scale") == []
    assert lost("U8") == [], "MXFP4 has none"


def missing_shard(directory: Path) -> None:
    (sharded(directory) / TWO).unlink()


def cut_off(directory: Path) -> None:
    file = single(directory) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def cut_off_shard(directory: Path) -> None:
    file = sharded(directory) / TWO
    file.write_bytes(file.read_bytes()[:60])


def empty(directory: Path) -> None:
    (single(directory) / "model.safetensors").write_bytes(b"")


def noise(directory: Path) -> None:
    (single(directory) / "model.safetensors").write_bytes(bytes(range(256)) * 9)


def longer(directory: Path) -> None:
    file = single(directory) / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"more")


def lfs(directory: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    (single(directory) / "model.safetensors").write_text(pointer)


def lfs_tokenizer(directory: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    (single(directory) / "tokenizer.json").write_text(pointer)


def adapter(directory: Path) -> None:
    directory.mkdir()
    (directory / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    save_file(tensors("a.lora_A.weight"), directory / "adapter_model.safetensors")


def adapter_with_config(directory: Path) -> None:
    adapter(directory)
    (directory / "config.json").write_text("{}")


def adapter_beside(directory: Path) -> None:
    single(directory)
    (directory / "adapter_config.json").write_text("{}")


def two_sets(directory: Path) -> None:
    save_file(tensors("a.weight", "b.weight"), sharded(directory) / "model.safetensors")


def stale_index(directory: Path) -> None:
    index(single(directory), {"a.weight": ONE})


def other_names(directory: Path) -> None:
    single(directory, "weights.safetensors")


def only_consolidated(directory: Path) -> None:
    single(directory, "consolidated.safetensors")


def shards_without_index(directory: Path) -> None:
    (sharded(directory) / INDEX).unlink()


def index_of_nothing(directory: Path) -> None:
    (sharded(directory) / INDEX).write_text("{}")


def index_cut_off(directory: Path) -> None:
    (sharded(directory) / INDEX).write_text('{"weight_map": {"a')


def index_leading_outside(directory: Path) -> None:
    index(sharded(directory), {"a.weight": "../other.safetensors"})


def twice(directory: Path) -> None:
    save_file(tensors("a.weight", "b.weight"), sharded(directory) / TWO)


def config_leading_outside(directory: Path) -> None:
    (single(directory) / "config.json").write_text('{"transformers_weights": "../x.safetensors"}')


def config_of_a_list(directory: Path) -> None:
    (single(directory) / "config.json").write_text("[]")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (missing_shard, f"lacks {TWO} of 2 files that {INDEX} names"),
        (cut_off, "model.safetensors is truncated"),
        (cut_off_shard, f"{TWO} is "),
        (empty, "model.safetensors is not a safetensors file"),
        (noise, "model.safetensors is not a safetensors file"),
        (longer, "model.safetensors is damaged"),
        (lfs, "model.safetensors is a Git LFS pointer.*git lfs pull"),
        (lfs_tokenizer, "tokenizer.json is a Git LFS pointer.*git lfs pull"),
        (adapter, "is an adapter of owner/base.*merge_and_unload"),
        (adapter_with_config, "is an adapter of owner/base.*merge_and_unload"),
        (adapter_beside, "adapter.*beside its weights.*remove adapter_config.json"),
        (two_sets, f"two sets of weights, model.safetensors and {INDEX}.*remove one of the two"),
        (stale_index, "two sets of weights"),
        (other_names, "weights.safetensors: give its weights one of those names"),
        (only_consolidated, "consolidated.safetensors: give"),
        (shards_without_index, f"{ONE}, {TWO}: give"),
        (index_of_nothing, "without a weight_map"),
        (index_cut_off, f"{INDEX} is not JSON"),
        (index_leading_outside, "outside the directory"),
        (twice, f"a.weight twice, in {ONE} and {TWO}"),
        (config_leading_outside, "names ../x.safetensors in config.json"),
        (config_of_a_list, "config.json is not a JSON object"),
    ],
)
def test_weights_that_cannot_be_told_are_refused_with_the_way_out(
    make: Any, said: str, tmp_path: Path
) -> None:
    make(tmp_path / "m")
    for ask in (light_config, locate):
        with pytest.raises(UsageError, match=said) as found:
            ask(local(tmp_path / "m"))
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("claimed", ["{}", '{"dtype": "float32"}', '{"torch_dtype": "bfloat16"}'])
def test_dtype_is_that_of_most_numbers_whatever_config_claims(claimed: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(claimed)
    content = {**tensors("a.weight"), "norm.weight": np.zeros(8, np.float32)}
    # What is quantized, and what belongs to it, tells nothing.
    content |= tensors("b.weight_scale", "b.SCB", "b.absmax", dtype=np.float32, size=64)
    content |= tensors("b.weight_packed", dtype=np.int32, size=64)
    save_file(content, tmp_path / "model.safetensors")
    assert stored_dtype(tmp_path) == "float16"


LAYER = "model.layers.0.mlp.down_proj"
FORMATS: dict[str, dict[str, Any]] = {
    "integers of compressed-tensors": {
        "weight_packed": np.int32, "weight_scale": np.float16, "weight_shape": np.int64,
    },
    "GPTQ and AWQ": {"qweight": np.int32, "qzeros": np.int32, "scales": np.float16},
    "LLM.int8()": {"weight": np.int8, "SCB": np.float32},
    "bitsandbytes": {
        "weight": np.uint8, "weight.absmax": np.float32, "weight.quant_map": np.float32,
        "weight.quant_state.bitsandbytes__nf4": np.uint8,
    },
}  # fmt: skip


@pytest.mark.parametrize("parts", FORMATS.values(), ids=FORMATS)
def test_a_quantized_weight_without_one_of_its_parts_is_refused_by_name(
    parts: dict[str, Any], tmp_path: Path
) -> None:
    directory = single(tmp_path / "m")
    whole = {
        f"{layer}.{part}": np.zeros((2, 2), kind)
        for layer in (LAYER, "model.layers.1.mlp.down_proj")
        for part, kind in parts.items()
    }
    save_file(whole, directory / "model.safetensors")
    locate(local(directory))
    for part in parts:
        name = f"{LAYER}.{part}"
        without = {other: tensor for other, tensor in whole.items() if other != name}
        save_file(without, directory / "model.safetensors")
        with pytest.raises(UsageError, match=f"lacks {LAYER}.{part[:18]}"):
            locate(local(directory))
