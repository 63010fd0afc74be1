"""Every method and backend goes through architectures of each structure, or refuses them before."""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.data.models.llama_cpp_families import NOT_CONVERTED
from runner.methods.backends import auto_gptq, autoawq
from runner.reporting.rows import rows_of
from runner.store.records import read_records
from tests.integration.conftest import here, records
from tests.integration.results import divergence, loss
from tests.integration.zoo import Cells, broken, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.environments("legacy", "gptqmodel", "llama_cpp", "vllm_cpu"),
    pytest.mark.timeout(1800),  # one sweep is what all tests look at
]

REPRESENTATIVES = ("llama3", "mixtral", "gpt2")
"""Plain, a mixture of experts, and fused layers of a class of their own."""
METHODS = """
      gptq: {model: "SOME", engine: hf, engine.dtype: float32, method: gptq,
             method.backend: "llm_compressor,auto_gptq,gptqmodel"}
      awq: {model: "SOME", engine: hf, engine.dtype: float32, method: awq,
            method.backend: "llm_compressor,autoawq"}
      others: {model: "SOME", engine: hf, engine.dtype: float32,
               method: "none,llm_int8,smoothquant,fp8,mxfp4,nvfp4"}
      gguf: {model: "SOME", engine: "hf,llama_cpp", engine.dtype: float32, method: gguf,
             bits: "w8a16,w4a16"}
      gguf_two_bits: {model: zoo/llama3, engine: "hf,llama_cpp", engine.dtype: float32,
                      method: gguf, bits: w2a16}
      rounded: {model: zoo/llama3, engine: hf, engine.dtype: float32, method: "rtn,quip"}
      vllm: {model: zoo/llama3, engine: vllm, engine.enforce_eager: "true",
             engine.dtype: bfloat16, method: "none,rtn,quip"}
      vllm_gptq: {model: zoo/llama3, engine: vllm, engine.enforce_eager: "true",
                  engine.dtype: bfloat16, method: gptq,
                  method.backend: auto_gptq}
      learned: {model: zoo/llama3, engine: hf, engine.dtype: float32, method: autoround,
                method.backend: auto_round, method.iters: 1, method.sym: "false"}
      vllm_learned: {model: zoo/llama3, engine: vllm, engine.enforce_eager: "true",
                     engine.dtype: bfloat16, method: autoround, method.backend: auto_round,
                     method.iters: 1, method.sym: "false"}
      smoothed: {model: zoo/gemma2, engine: hf, engine.dtype: float32, method: smoothquant}
""".replace("SOME", ",".join(f"zoo/{name}" for name in REPRESENTATIVES))


@pytest.fixture(scope="module")
def methods(
    store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Cells:
    work = tmp_path_factory.mktemp("zoo")
    return run("zoo_methods", METHODS, store, environment, work)


def test_every_method_works_or_is_refused(methods: Cells) -> None:
    assert not broken(methods)
    statuses = {(m, r): record["status"] for (m, r, e), record in methods.items() if e == "hf"}
    assert all(s == "ok" for (model, _), s in statuses.items() if model == "llama3"), statuses
    for model in REPRESENTATIVES:
        assert sum(s == "ok" for (m, _), s in statuses.items() if m == model) >= 4, model


def test_eight_bits_of_any_method_are_nearer_than_four(methods: Cells) -> None:
    eight = ("llm_int8-w8a8-per_channel", "smoothquant-w8a8-per_channel",
             "fp8-fp8_e4m3-per_channel", "gguf-Q8_0")  # fmt: skip
    four = ("gptq-w4a16-g64", "gptq@auto_gptq-w4a16-g64", "gptq@gptqmodel-w4a16-g64",
            "awq-w4a16-g64", "awq@autoawq-w4a16-g64", "mxfp4-fp4-g32", "nvfp4-fp4-g16",
            "gguf-Q4_K_M")  # fmt: skip
    for model in REPRESENTATIVES:
        near, far = (
            {
                recipe: divergence(methods[model, recipe, "hf"])
                for recipe in recipes
                if methods[model, recipe, "hf"]["status"] == "ok"
            }
            for recipes in (eight, four)
        )
        assert max(near.values()) < min(far.values()), (model, near, far)
        assert max(far.values()) < 1, (model, far)


@pytest.mark.parametrize("model", REPRESENTATIVES)
def test_a_gguf_file_is_the_same_in_every_engine_that_reads_it(methods: Cells, model: str) -> None:
    types = ("Q8_0", "Q4_K_M", "Q2_K") if model == "llama3" else ("Q8_0", "Q4_K_M")
    found = [methods[model, f"gguf-{kind}", "llama_cpp"] for kind in types]
    eight, four, *fewer = map(divergence, found)
    assert eight < 0.05 and eight < four
    assert all(four < two for two in fewer)
    for kind, record in zip(types, found, strict=True):
        read = methods[model, f"gguf-{kind}", "hf"]
        if read["status"] == "ok":  # llama.cpp rounds activations too
            assert loss(read, "recipe") == pytest.approx(loss(record, "recipe"), abs=0.05)
        else:
            assert "does not read GGUF files" in read["reason"]


def test_smoothing_takes_the_norm_that_stands_before_a_layer(methods: Cells) -> None:
    assert 0 < divergence(methods["gemma2", "smoothquant-w8a8-per_channel", "hf"]) < 0.01


def test_vllm_agrees(methods: Cells) -> None:
    ours = methods["llama3", "none-bf16", "hf"]
    theirs = methods["llama3", "none-bf16", "vllm"]
    assert loss(theirs) == pytest.approx(loss(ours), abs=0.02)
    learned = "autoround@auto_round-w4a16-g64,sym=false,iters=1"
    for name in ("rtn-w4a16-g64", "quip-w4a16-g64", "gptq@auto_gptq-w4a16-g64", learned):
        rounded, read = (methods["llama3", name, engine] for engine in ("vllm", "hf"))
        if rounded["status"] == "ok":  # else this CPU lacks what vLLM's kernel needs
            assert loss(rounded, "recipe") == pytest.approx(loss(read, "recipe"), abs=0.05)
        else:
            assert "vLLM" in rounded["reason"]


def _installed(pattern: str) -> str:
    """Text of a file of an environment, which cannot be imported here."""
    root = Path(os.environ["QUANT_RUNNER_ENVIRONMENTS"])
    return next(root.glob(f"legacy-*/lib/python*/site-packages/{pattern}")).read_text()


def test_tables_of_families_are_the_libraries(
    methods: Cells, store: Path, environments: None
) -> None:
    known = set(
        re.findall(r'^    "(\w+)": \w+GPTQ', _installed("auto_gptq/modeling/auto.py"), re.M)
    )
    assert known >= auto_gptq.FAMILIES
    known = set(re.findall(r'^    "(\w+)": \w+AWQ', _installed("awq/models/auto.py"), re.M))
    assert known >= autoawq.FAMILIES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

    (listed,) = store.glob(
        "cache/packages/llama-cpp-python-*/*/tree/vendor/*/conversion/__init__.py"
    )
    converted = set(re.findall(r'^    "(\w+)": "\w+",', listed.read_text(), re.M))
    assert not [kind for kind in NOT_CONVERTED if CLASSES[kind] in converted]


def test_the_command_on_a_card_leads_to_the_same_results(
    methods: Cells, store: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Of a run whose sweep's file says more than its command line."""
    record = methods["llama3", "gguf-Q4_K_M", "llama_cpp"]
    folder = tmp_path / "small"
    called = here(
        "export", f"{record['sweep']}/{record['run']}", str(folder),
        cwd=tmp_path, variables=environment,
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    assert sum(path.suffix == ".gguf" for path in folder.iterdir()) == 1
    (command,) = re.findall(r"^```\n(runner .*)\n```$", (folder / "README.md").read_text(), re.M)
    _, *words = shlex.split(command)
    again = here(*words, "sweep=remade", "tracker=none", cwd=tmp_path, variables=environment)
    assert again.returncode == 0, again.stderr
    (remade,) = records(store, "remade")
    assert remade["overrides"] != record["overrides"]
    assert keys(remade) == keys(record)


def keys(record: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(entry["stage"], entry["subject"]): entry["key"] for entry in record["stages"]}


def test_the_command_of_a_row_serves_its_checkpoint(methods: Cells, store: Path) -> None:
    """As a shell gets it. Both servers at once: most of their start is imports."""
    rows = {(row.model, row.engine, row.recipe.split(",")[0]): row.serve
            for row in rows_of(read_records(store / "runs", "zoo_methods"))}  # fmt: skip
    lines = [rows["zoo_llama3", "llama_cpp", "gguf-Q4_K_M"]]
    if methods["llama3", "rtn-w4a16-g64", "vllm"]["status"] == "ok":  # else this CPU lacks a kernel
        lines.append(rows["zoo_llama3", "vllm", "rtn-w4a16-g64"])
    with contextlib.ExitStack() as servers:
        started = [servers.enter_context(serving(str(line), store)) for line in lines]
        for address, log, process in started:
            answer = asked(address, log, process)
            assert answer["choices"][0]["finish_reason"] in ("length", "stop"), answer
            assert answer["usage"]["completion_tokens"] >= 1


Started = tuple[str, Path, "subprocess.Popen[bytes]"]


@contextlib.contextmanager
def serving(line: str, store: Path) -> Iterator[Started]:
    """A server's address, its log and its process, which is gone afterwards with all it started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = store / f"served-{port}.log"
    with log.open("wb") as printed:
        process = subprocess.Popen(
            f"{line} --port {port}", shell=True, stdout=printed, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}", log, process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def asked(address: str, log: Path, process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """The answer to one request, once the server takes any."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
        found: dict[str, Any] = json.load(opener.open(request, timeout=300))
        return found

    while True:
        assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
        try:
            (model,) = get("/v1/models")["data"]
            break
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.2)
    return get("/v1/completions", {"model": model["id"], "prompt": "def f(", "max_tokens": 4})
