"""GGUF: what follows from the bits, what llama.cpp refuses, what is fetched."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.method import Method
from runner.data import packages
from runner.data.models.gguf_file import read_gguf
from runner.engines.base import CheckpointFacts
from runner.engines.llama_cpp import ENGINE
from runner.engines.llama_cpp.footprint import gguf_footprint
from runner.errors import StageError, UsageError
from runner.methods.backends.gguf_kept import kept_tensors
from runner.methods.backends.gguf_mixes import QuantType
from runner.methods.backends.gguf_types import TensorType, TypeChoice
from runner.methods.backends.llama_cpp import (
    _reason,
    convert,
    importance_matrix,
    tensor_names,
)
from runner.methods.gguf import METHOD, Gguf, type_for
from runner.methods.recipe import Recipe
from runner.pipeline.stages.jobs.gguf import lossless_dtype
from runner.planning.formats import find_format

pytestmark = pytest.mark.unit

GROUP_SIZE = GroupSize(granularity=Granularity.group, size=64)


def weight_bits(num_bits: int) -> Bits:
    return Bits(weight=NumberFormat(type=NumberType.int, num_bits=num_bits))


@pytest.mark.parametrize(
    ("num_bits", "label"),
    [(8, "Q8_0"), (6, "Q6_K"), (5, "Q5_K_M"), (4, "Q4_K_M"), (3, "Q3_K_M"), (2, "Q2_K")],
)
def test_type_follows_from_the_bits(num_bits: int, label: str) -> None:
    assert Gguf(name="gguf").scheme_label(weight_bits(num_bits), GROUP_SIZE) == label


def test_every_bits_scheme_it_claims_has_a_type() -> None:
    for label in METHOD.backends["llama_cpp"].bits:
        bits = weight_bits(int(label[1]))
        assert bits.label == label
        assert type_for(Gguf(name="gguf"), bits) is not None


def test_type_asked_for_wins() -> None:
    method = Gguf(name="gguf", quant_type=QuantType.IQ4_XS)
    assert method.scheme_label(weight_bits(8), GROUP_SIZE) == "IQ4_XS"


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({"quant_type": QuantType.IQ4_XS}, "iq4_xs"),
        ({"quant_type": QuantType.MXFP4}, "gguf_mxfp4"),  # mxfp4 is a safetensors format
        ({"quant_type": QuantType.Q4_0, "pure": True}, None),
        ({"tensor_types": {"ffn_down": TensorType.Q8_0}}, None),
    ],
)
def test_plans_know_a_mix_but_no_choice_of_single_tensors(
    options: dict[str, Any], label: str | None
) -> None:
    told = Gguf("gguf", **options).plan_label(weight_bits(4), GROUP_SIZE)
    assert told is not None
    if label is not None:
        assert find_format(told).label == label
    else:
        with pytest.raises(UsageError):
            find_format(told)


def test_other_bits_have_no_type() -> None:
    method = Gguf(name="gguf")
    activations = NumberFormat(type=NumberType.int, num_bits=8)
    floats = Bits(weight=NumberFormat(type=NumberType.normal_float, num_bits=4))
    for bits in (
        weight_bits(7),
        floats,
        Bits(weight=weight_bits(8).weight, activation=activations),
    ):
        assert type_for(method, bits) is None
        assert method.scheme_label(bits, GROUP_SIZE) == Method.scheme_label(
            method, bits, GROUP_SIZE
        )


@pytest.mark.parametrize("imatrix", [False, True])
def test_text_is_looked_at_for_an_importance_matrix_alone(imatrix: bool) -> None:
    calibration = Calibration(name="some")
    recipe = Recipe(Gguf(name="gguf", imatrix=imatrix), weight_bits(4), GROUP_SIZE, calibration)
    assert METHOD.calibration_for(recipe) is (calibration if imatrix else None)


def test_engine_reads_gguf_alone() -> None:
    def refusal(kind: str) -> str | None:
        return ENGINE.refusal(
            CheckpointFacts(format=kind, bits=None, group_size=None, method=None, device="cpu")
        )

    assert refusal("gguf") is None
    assert "method=gguf" in (refusal("compressed-tensors") or "")
    assert ENGINE.dense_format == "gguf"


@pytest.mark.parametrize("claimed", ["{}", '{"dtype": "bfloat16"}'])
@pytest.mark.parametrize(("dtype", "kind"), [(np.float16, "float16"), (np.float32, "float32")])
def test_conversion_keeps_the_weights_type_whatever_config_claims(
    claimed: str, dtype: type, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(claimed)
    save_file({"a.weight": np.zeros((2, 2), dtype)}, tmp_path / "model.safetensors")
    assert lossless_dtype(tmp_path) == kind


def test_reason_is_the_last_line_that_says_something() -> None:
    assert _reason(["INFO:hf-to-gguf:x", "ERROR:hf-to-gguf:Model Foo is not supported"]) == (
        "Model Foo is not supported"
    )
    lines = ["Traceback (most recent call last):", "NotImplementedError: not recognized", ""]
    assert _reason(lines) == "not recognized"
    assert _reason(["the cause", "ValueError"]) == "the cause"
    assert _reason(["", "ERROR:hf-to-gguf:"]) == _reason([]) == ""


CONVERTER = """
class TextModel:
    def get_vocab_base_pre(self, tokenizer):
        raise NotImplementedError("BPE pre-tokenizer was not recognized")
class ModelBase:
    @staticmethod
    def load_hparams(directory, is_mistral_format):
        return {}
"""


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "from conversion.base import TextModel\nTextModel().get_vocab_base_pre(None)",
            "BPE pre-tok",
        ),
        ("raise SystemExit(3)", "its converter ended with 3"),
        ("raise SystemExit('no such shard')", "no such shard"),
        ("import os; os.kill(os.getpid(), 9)", "its converter ended with -9"),
        ("import gguf", "No module named 'gguf.of_the_converter'"),
    ],
)
def test_a_model_that_is_not_converted_is_told_with_llama_cpps_reason(
    script: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "conversion").mkdir()
    (tmp_path / "conversion" / "base.py").write_text(CONVERTER)
    (tmp_path / "convert.py").write_text(script)
    # What this process has imported of that name is not the converter's.
    (tmp_path / "gguf-py" / "gguf").mkdir(parents=True)
    (tmp_path / "gguf-py" / "gguf" / "__init__.py").write_text("import gguf.of_the_converter")
    (tmp_path / "config.json").write_text('{"architectures": ["OursForCausalLM"]}')
    with pytest.raises(StageError, match=rf"^llama\.cpp cannot convert OursForCausalLM: {why}"):
        convert(tmp_path, tmp_path / "made.gguf", "f16", tmp_path / "convert.py")


NAMES = {
    "model.embed_tokens": "token_embd",
    **{
        f"model.layers.0.{ours}": f"blk.0.{theirs}"
        for ours, theirs in {
            "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
            "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
            "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        }.items()
    },
}  # fmt: skip


def dense_file(path: Path, tensors: list[str], architecture: str = "llama") -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    for name in tensors:
        writer.add_tensor(f"{name}.weight", np.zeros((2, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_head_that_is_the_embedding_has_its_tensor(tmp_path: Path) -> None:
    modules = ["lm_head", *NAMES, "model.layers.0.input_layernorm", "something.else"]
    tied = dense_file(tmp_path / "tied.gguf", [*NAMES.values()])
    weights = {module: f"{name}.weight" for module, name in NAMES.items()}
    assert tensor_names(tied, modules) == {**weights, "lm_head": "token_embd.weight"}
    apart = dense_file(tmp_path / "apart.gguf", [*NAMES.values(), "output"])
    assert tensor_names(apart, modules) == {**weights, "lm_head": "output.weight"}
    other = dense_file(tmp_path / "other.gguf", [], architecture="of_tomorrow")
    with pytest.raises(StageError, match="gguf does not know the architecture of_tomorrow"):
        tensor_names(other, modules)


def test_ignored_layers_are_kept_by_their_tensors_names(tmp_path: Path) -> None:
    dense = dense_file(tmp_path / "dense.gguf", [*NAMES.values()])
    headers = {f"{module}.weight": np.zeros((2, 2), np.float32) for module in NAMES}
    save_file(headers | {"a.bias": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    assert kept_tensors(tmp_path, dense, []) == []
    assert kept_tensors(tmp_path, dense, ["lm_head"]) == ["token_embd.weight"]
    some = ["re:.*(up|down)_proj", "model.layers.0.self_attn.o_proj"]
    kept = ["blk.0.ffn_up.weight", "blk.0.ffn_down.weight", "blk.0.attn_output.weight"]
    assert sorted(kept_tensors(tmp_path, dense, some)) == sorted(kept)
    with pytest.raises(StageError, match=r"method\.ignore: no layer matches up_proj$"):
        kept_tensors(tmp_path, dense, ["up_proj"])


def test_importance_is_the_mean_square_of_each_input(tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                    num_attention_heads=4, num_key_value_heads=2)
    ).eval()  # fmt: skip
    model.save_pretrained(tmp_path)
    dense = dense_file(tmp_path / "dense.gguf", [*NAMES.values(), "output"])
    windows, said = [[5, 6, 7], [8, 9, 10, 11]], []
    seen: dict[str, list[Any]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda _, given, name=name: seen.setdefault(name, []).append(given[0][0])
            )
    with torch.inference_mode():
        for window in windows:
            model(torch.tensor([window]))
    found = importance_matrix(
        tmp_path, dense, windows, trust_remote_code=False, device="cpu", dtype="float32",
        progress=lambda *told: said.append(told),
    )  # fmt: skip
    assert {*found} == {f"{name}.weight" for name in NAMES.values()} - {"token_embd.weight"}
    for module, name in NAMES.items():
        if module in seen:
            expected = torch.cat(seen[module]).square().mean(0).numpy()
            assert found[f"{name}.weight"] == pytest.approx(expected, rel=1e-5)
    assert said == [(0, 2, "finding which inputs matter"), (1, 2, "finding which inputs matter")]


def add_file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


@pytest.fixture
def sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Digest of the source archive that pip would give."""
    path = tmp_path / "demo-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        add_file(archive, "demo-1.0/tools/script.py", b"print()\n")
        add_file(archive, "demo-1.0/tools/parts/one.py", b"ONE = 1\n")
        add_file(archive, "demo-1.0/tools/partsbin/two.py", b"TWO = 2\n")

    def download(package: str, version: str, directory: Path, kinds: object) -> Path:
        assert kinds == (("--no-binary=demo",),)
        copy = directory / path.name
        copy.write_bytes(path.read_bytes())
        return copy

    monkeypatch.setattr(packages, "_download", download)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_tree_holds_what_was_asked_for_and_is_fetched_once(
    sha256: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ("tools/script.py", "tools/parts")
    tree = packages.fetch_tree("demo", "1.0", wanted, sha256, tmp_path / "cache")
    files = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert files == {"tools/script.py", "tools/parts/one.py", "seal.json"}
    assert {child.name for child in tree.parent.iterdir()} <= {"tree", "tree.lock"}
    monkeypatch.setattr(packages, "_download", None)
    assert packages.fetch_tree("demo", "1.0", wanted, sha256, tmp_path / "cache") == tree


def test_tree_of_another_archive_or_without_a_folder_is_refused(
    sha256: str, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(StageError, match=rf"{sha256}.*expected {'0' * 64}; it was not kept"):
        packages.fetch_tree("demo", "1.0", ("tools",), "0" * 64, cache)
    with pytest.raises(StageError, match=r"demo-1\.0\.tar\.gz has no tools/other"):
        packages.fetch_tree("demo", "1.0", ("tools/script.py", "tools/other"), sha256, cache)
    assert not [path for path in cache.rglob("tree") if path.is_dir()]


@pytest.mark.parametrize(
    ("used", "share"), [(2, 0.25), (None, 1.0)], ids=["a share is said", "none is said"]
)
def test_of_a_mixture_a_step_reads_the_experts_it_chooses(
    used: int | None, share: float, tmp_path: Path
) -> None:
    """Without its own output matrix the embedding is read whole, and position rows are not."""
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "qwen3moe")
    writer.add_block_count(3)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_expert_count(8)
    if used is not None:
        writer.add_expert_used_count(used)
    experts, embedding, table = np.ones((8, 64, 64), np.float16), np.ones((32, 64)), (16, 64)
    writer.add_tensor("blk.0.ffn_up_exps.weight", experts)
    writer.add_tensor("token_embd.weight", embedding.astype(np.float32))
    writer.add_tensor("position_embd.weight", np.ones(table, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    routed, read, unread = 8 * 64 * 64 * 2, 32 * 64 * 4, 16 * 64 * 4
    found = gguf_footprint(gguf.GGUFReader(path), routed + read + unread)
    assert found.routed_share == share
    assert found.routed_bytes == (0 if used is None else routed)
    assert found.streamed_bytes_per_step == read + share * routed
    assert found.weight_bytes_by_dtype == {"F16": routed, "F32": read + unread}
    # Three layers, two heads of width 16, keys and values, two bytes each.
    assert found.kv_cache_bytes_per_token == 3 * 2 * 16 * 2 * 2


def test_a_file_is_read_without_its_vocabulary(tmp_path: Path) -> None:
    """Which takes the package seconds; all else is as the package reads it."""
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_array("llama.attention.head_count_kv", [1, 2])
    writer.add_token_list([f"word{'s' * (number % 7)}" for number in range(5000)])
    writer.add_token_scores([0.5] * 5000)
    writer.add_token_types([1] * 5000)
    writer.add_tensor("token_embd.weight", np.arange(64, dtype=np.float32).reshape(2, 32))
    writer.add_tensor("blk.0.attn_q.weight", np.ones((4, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found, whole = read_gguf(path), gguf.GGUFReader(path)
    vocabulary = {f"tokenizer.ggml.{kind}" for kind in ("tokens", "scores", "token_type")}
    assert [*found.fields] == [*whole.fields] and vocabulary < {*found.fields}
    for name, field in whole.fields.items():
        told = found.fields[name].contents()
        assert told == ([] if name in vocabulary else field.contents())
    for one, other in zip(found.tensors, whole.tensors, strict=True):
        assert (one.name, one.tensor_type) == (other.name, other.tensor_type)
        assert np.array_equal(one.data, other.data) and [*one.shape] == [*other.shape]


class Tensor:
    """What a reader tells of a tensor."""

    def __init__(self, name: str, shape: tuple[int, ...], kind: str = "F16") -> None:
        self.name, self.shape = name, np.array(shape)
        self.tensor_type = gguf.GGMLQuantizationType[kind]


SOURCE = [
    Tensor("token_embd.weight", (576, 100)),
    Tensor("blk.0.attn_q.weight", (576, 576)),
    Tensor("blk.0.ffn_down.weight", (1536, 576)),
    Tensor("blk.0.attn_norm.weight", (576,)),
]


@pytest.mark.parametrize(
    ("choice", "wrong"),
    [
        (TypeChoice("Q4_0", patterns={"ffn_dwn": TensorType.Q8_0}), "no tensor that is left"),
        (TypeChoice("Q4_0", patterns={"attn_norm": TensorType.Q8_0}), "no tensor that is left"),
        (TypeChoice("Q4_0", patterns={"attn_q": TensorType.Q6_K}), "do not fit rows of 576"),
        (
            TypeChoice("Q4_0", input_embedding=TensorType.Q6_K),
            "token_embedding_type=Q6_K: Q6_K has",
        ),
        (TypeChoice("Q4_0", output_embedding=TensorType.Q4_K), "output_tensor_type=Q4_K: Q4_K has"),
        (
            TypeChoice("Q4_0", patterns={"ffn": TensorType.Q8_0, "ffn_down": TensorType.Q5_0}),
            "ffn_down: Q5_0: no tensor that is left",
        ),
        (
            TypeChoice("IQ2_S", patterns={"emb": TensorType.IQ2_XS}),
            "no importance matrix has embeddings",
        ),
        (TypeChoice("Q4_0", patterns={"attn|ffn": TensorType.Q6_K}), None),
        (TypeChoice("Q4_0", output_embedding=TensorType.Q8_0), None),
    ],
)
def test_a_type_that_no_tensor_can_have_is_refused(choice: TypeChoice, wrong: str | None) -> None:
    if wrong is None:
        choice.check_source(SOURCE)
        return
    with pytest.raises(StageError, match=wrong):
        choice.check_source(SOURCE)


def test_what_was_written_is_held_against_what_was_asked_for() -> None:
    written = [
        Tensor("token_embd.weight", (576, 100), "Q8_0"),
        Tensor("blk.0.attn_q.weight", (576, 576), "Q8_0"),
        Tensor("blk.0.ffn_down.weight", (1536, 576), "Q6_K"),
    ]
    choice = TypeChoice("Q4_0", patterns={"attn|ffn": TensorType.Q6_K})
    (note,) = choice.check_written(written)
    assert note.startswith("1 of 2 tensors") and note.endswith("are Q8_0 instead of Q6_K")
    with pytest.raises(StageError, match=r"token_embedding_type=Q4_0 had no effect.*wrote Q8_0"):
        TypeChoice("Q8_0", input_embedding=TensorType.Q4_0).check_written(written)
    with pytest.raises(StageError, match="for experts alone"):
        TypeChoice("MXFP4_MOE", main=TensorType.MXFP4).check_written(written)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"quant_type": QuantType.IQ2_M}, "IQ2_M with an importance matrix alone"),
        ({"tensor_types": {"ffn": TensorType.IQ1_S}}, "IQ1_S with an importance matrix alone"),
        ({"quant_type": QuantType.IQ2_M, "imatrix": True}, None),
        ({"quant_type": QuantType.IQ3_S}, None),
        ({"token_embedding_type": TensorType.IQ1_S, "imatrix": True}, "embeddings do not have"),
        ({"quant_type": QuantType.BF16, "pure": True}, "have no effect"),
        ({"quant_type": QuantType.NVFP4, "pure": True}, "has no effect"),
        ({"tensor_types": {"ffn(": TensorType.Q8_0}}, "no regular expression"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    options: dict[str, Any], wrong: str | None
) -> None:
    method = Gguf(name="gguf", **options)
    found = method.misfit(weight_bits(4), GROUP_SIZE, "cpu")
    assert (found is None) == (wrong is None)
    assert wrong is None or wrong in (found or ("",))[0]


def test_every_type_is_one_that_the_package_gguf_reads() -> None:
    readable = {kind.name for kind in gguf.quants._type_traits} | {"F32", "F16"}
    assert {kind.value for kind in TensorType} <= readable
