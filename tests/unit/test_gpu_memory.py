"""Memory of GPUs: what the driver says of processes, what engines say of its parts."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runner.config.schema.bench import Bench
from runner.engines.base import DeviceMemory, Footprint, GenerationTiming
from runner.engines.hf.model import HfModel
from runner.engines.instruments.driver import (
    Counted,
    GpuReading,
    Held,
    held_by,
    read_gpus,
)
from runner.engines.instruments.memory import free_memory_bytes
from runner.engines.llama_cpp.buffers import Buffers
from runner.engines.vllm import VllmModel
from runner.evaluation.metrics.speed import BatchMemory
from runner.pipeline.stages.base import StageContext
from runner.pipeline.stages.bench import STAGE as BENCH
from runner.pipeline.stages.bench import BenchRequest
from runner.pipeline.stages.bench import measure as measure_module
from runner.pipeline.stages.bench.measure import _most_needed, measure
from runner.pipeline.stages.serving import STAGE as SERVING
from runner.reporting.compare.figures import figures
from runner.reporting.rows import rows_of
from runner.store.records import RunRecord
from runner.util.processes import descendants
from tests.stub_driver import H100, cards
from tests.unit.conftest import StubDriver
from tests.unit.records import content_of, recipe, whole
from tests.unit.test_gpus import SLICED
from tests.unit.test_inputs import load_request, written

pytestmark = pytest.mark.unit

GIB = 2**30
UNUSED = GpuReading(0, 80 * GIB, {})


@pytest.fixture
def gpus(stub_driver: StubDriver) -> Callable[..., None]:
    """Sets what the driver says of four GPUs, of which CUDA knows the last and the second."""

    def tell(**said: str | None) -> None:
        stub_driver(cards(H100, H100, H100, H100), CUDA_VISIBLE_DEVICES="3,1", **said)

    return tell


def test_the_driver_tells_the_memory_of_the_gpus_in_use(gpus: Callable[..., None]) -> None:
    gpus(STUB_USED="9|20|9|40", STUB_PROCESSES="0,7,9|1,7,20|3,8,30|3,9,-")
    fourth, second = read_gpus()
    assert fourth == GpuReading(40, 85520809984 - 40, {8: 30, 9: None})
    assert second == GpuReading(20, 85520809984 - 20, {7: 20})
    gpus(STUB_USED="9|-|9|40")
    assert [one.used_bytes for one in read_gpus()] == [40, None]


def test_all_processes_of_an_engine_count_on_all_gpus_in_use(gpus: Callable[..., None]) -> None:
    before = [UNUSED, UNUSED]
    gpus(STUB_PROCESSES="0,7,500|1,7,20|1,8,1|2,8,500|3,8,30|3,99,500", STUB_USED="0|30|0|600")
    assert held_by([6, 7, 8], before, read_gpus()) == Held(51, Counted.processes)
    # The first has only begun: it holds nothing on the second GPU.
    assert held_by([6, 7], before, read_gpus()) == Held(20, Counted.processes)
    gpus(STUB_PROCESSES="1,7,20|3,8,-")
    assert held_by([7, 8], before, read_gpus()) is None, "a part of it is not told"


def test_in_a_container_a_device_that_nobody_used_tells_the_processes(
    gpus: Callable[..., None],
) -> None:
    """The driver numbers them as the host does."""
    gpus(STUB_USED="0|5|0|7")
    before = read_gpus()
    gpus(STUB_USED=f"0|{2 * GIB}|0|{3 * GIB}", STUB_PROCESSES="1,70001,20|3,70001,30")
    assert held_by([7], before, read_gpus()) == Held(5 * GIB - 12, Counted.device)
    gpus(STUB_USED=f"0|{GIB}|0|7")
    assert held_by([7], read_gpus(), before) is None, "somebody used one"
    for silent in (
        replace(before[0], used_bytes=None),
        replace(before[0], processes={3: 5}),
    ):
        assert held_by([7], [silent, before[1]], read_gpus()) is None
    assert held_by([7], before, before) is None, "nothing was begun there"
    assert held_by([7], [], before) is None
    assert held_by([7], [], []) is None


def test_a_process_that_was_there_before_is_none_of_ours(gpus: Callable[..., None]) -> None:
    """Another's number in a container may be ours outside of it."""
    gpus(STUB_PROCESSES="1,7,20")
    before = read_gpus()
    gpus(STUB_PROCESSES="1,7,20|1,70001,30", STUB_USED=f"0|{GIB}")
    assert held_by([7], before, read_gpus()) is None
    gpus(STUB_PROCESSES="1,7,20|1,8,30", STUB_USED=f"0|{GIB}")
    assert held_by([7, 8], before, read_gpus()) == Held(30, Counted.processes)


def test_a_process_whose_memory_the_driver_does_not_tell_is_unknown(
    stub_driver: StubDriver,
) -> None:
    stub_driver(SLICED, CUDA_VISIBLE_DEVICES="MIG-2ccc", STUB_USED="0")
    before = read_gpus()
    used = {"STUB_USED": str(GIB), "STUB_PROCESSES": "0,7,-"}
    stub_driver(SLICED, CUDA_VISIBLE_DEVICES="MIG-2ccc", **used)
    assert held_by([7], before, read_gpus()) is None
    assert held_by([8], before, read_gpus()) == Held(GIB, Counted.device)


@pytest.fixture
def family() -> Iterator[int]:
    """A process that has started one."""
    program = "sleep 60 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        yield int(parent.stdout.readline())
        for pid in descendants(os.getpid()):
            os.kill(pid, 9)


def test_processes_that_an_engine_has_started_are_its_own(family: int) -> None:
    assert len(descendants(os.getpid())) == 2
    assert family in descendants(os.getpid())


def test_free_is_what_the_driver_has_on_all_gpus_and_torchs_reserve(
    gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch, stub_driver: StubDriver
) -> None:
    gpus(STUB_USED="0|20|0|30")
    assert free_memory_bytes("cuda") == 2 * 85520809984 - 50
    allocator(monkeypatch, reserved=[90, 9], allocated=[40, 9])
    assert free_memory_bytes("cuda") == 2 * 85520809984
    gpus(STUB_USED="0|20|0|-")
    assert free_memory_bytes("cuda") is None
    stub_driver(None)
    assert free_memory_bytes("cuda") is None


def allocator(monkeypatch: pytest.MonkeyPatch, **told: list[int]) -> list[int]:
    """What torch's allocators say of two GPUs; returns those whose peaks are begun anew."""
    begun: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", begun.append)
    for name, key in (
        ("memory_allocated", "allocated"),
        ("max_memory_allocated", "peak"),
        ("memory_reserved", "reserved"),
    ):
        values = told.get(key, [0, 0])
        monkeypatch.setattr(torch.cuda, name, values.__getitem__)
    segments = [
        {"segment_pool_id": (0, 0), "total_size": 500, "allocated_size": 10},
        {"segment_pool_id": (0, 1), "total_size": 30, "allocated_size": 10},
        {"segment_pool_id": (0, 1), "total_size": 7, "allocated_size": 0},
    ]
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda **_: segments)
    return begun


def test_transformers_memory_is_of_all_gpus_and_since_the_peak_was_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever loading took: what is unpacked there is let go of."""
    model = torch.nn.Linear(8, 4, bias=False)
    monkeypatch.setattr(torch.nn.Parameter, "is_cuda", True)
    loaded = HfModel(model, "cuda")
    assert loaded.device_memory() is None, "nothing was generated yet"
    assert allocator(monkeypatch, allocated=[150, 50]) == []
    begun = allocator(monkeypatch, allocated=[150, 50], peak=[290, 60])
    loaded.begin_device_peak()
    assert begun == [0, 1]
    loaded._kv_cache = (100, 4)
    found = loaded.device_memory()
    # 128 bytes of weights among 200; the peaks have 150 more, 100 of them the cache.
    assert found == DeviceMemory(weights=128, kv_cache=100, activations=50, other=72)
    assert found.needed == 350
    on_cpu = HfModel(model, "cpu")
    on_cpu._kv_cache = (100, 4)
    on_cpu.begin_device_peak()
    assert begun == [0, 1] and on_cpu.device_memory() is None


class Workers:
    """Two processes of vLLM that have loaded half of a model each."""

    def collective_rpc(self, function: Callable[[Any], int]) -> list[int]:
        storage = torch.zeros(4000, dtype=torch.int8)
        # Two layers of one allocation.
        views = [storage[:2000], storage[1000:]]
        worker = SimpleNamespace(model_runner=SimpleNamespace(kv_caches=views))
        return [function(worker), function(worker)]

    def apply_model(self, _: object) -> list[tuple[dict[str, int], int, int]]:
        return [({"bfloat16": 300}, 0, 0)] * 2

    def model(self) -> VllmModel:
        shape = SimpleNamespace(
            hf_text_config=SimpleNamespace(num_hidden_layers=1, tie_word_embeddings=True),
            dtype=torch.bfloat16,
            get_total_num_kv_heads=lambda: 1,
            get_head_size=lambda: 5,
        )
        config = SimpleNamespace(
            cache_config=SimpleNamespace(block_size=16, num_gpu_blocks=20, cache_dtype="auto"),
            model_config=shape,
            parallel_config=SimpleNamespace(tensor_parallel_size=2),
        )
        engine = SimpleNamespace(vllm_config=config)
        llm = SimpleNamespace(
            llm_engine=engine,
            model_config=shape,
            collective_rpc=self.collective_rpc,
            apply_model=self.apply_model,
        )
        return VllmModel(llm, "cuda")


def test_vllms_memory_is_of_all_workers_and_apart_from_what_it_sets_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Workers().model()
    # Each has its own GPU, and room for 320 tokens of 25 bytes together.
    begun = allocator(monkeypatch, allocated=[4400, 0])
    served.begin_device_peak()
    assert begun == [0, 1] * 2
    allocator(monkeypatch, allocated=[4400, 0], peak=[4450, 0])
    served._tokens = 10
    found = served.device_memory()
    assert found == DeviceMemory(
        weights=600,
        kv_cache=250,
        # 50 each at the worst, and the 27 bytes that graphs compute in.
        activations=2 * (50 + 27),
        other=2 * (4400 - 300 - 4000),
        kv_cache_reserved=8000,
    )
    assert found.needed == 600 + 250 + 154 + 200
    # Two GPUs keep a copy each of the only head.
    assert served.footprint().kv_cache_bytes_per_token == 2 * 1 * 2 * 5 * 2


LOG = """load_tensors:   CPU_Mapped model buffer size =    64.00 MiB
load_tensors:        CUDA0 model buffer size =   500.00 MiB
load_tensors:        CUDA1 model buffer size =   460.50 MiB
load_tensors:    CUDA_Host model buffer size =    10.00 MiB
llama_context:  CUDA_Host  output buffer size =     0.19 MiB
llama_kv_cache:      CUDA0 KV buffer size =    20.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =    10.00 MiB
llama_memory_recurrent:      CUDA1 RS buffer size =    10.00 MiB
llama_kv_cache:        CPU KV buffer size =    40.00 MiB
sched_reserve:      CUDA0 compute buffer size =    30.00 MiB
sched_reserve:      CUDA0 compute buffer size =    50.00 MiB
sched_reserve:      CUDA1 compute buffer size =    50.00 MiB
sched_reserve:  CUDA_Host compute buffer size =     9.00 MiB
~llama_context:      CUDA0 compute buffer size is  50.0000 MiB, matches expectation of 50.0000"""


def test_llama_cpps_memory_is_what_it_logs_of_buffers_on_gpus() -> None:
    buffers, mib = Buffers(), 2**20
    assert buffers.on_gpus(0) is None
    for line in LOG.splitlines():
        buffers.hear(2, line)
    # Half of the cache lies on GPUs.
    assert buffers.on_gpus(8 * mib) == DeviceMemory(
        weights=round(960.5 * mib),
        kv_cache=4 * mib,
        activations=100 * mib,
        other=0,
        kv_cache_reserved=40 * mib,
    )
    buffers.new_context()
    assert buffers.on_gpus(0) == DeviceMemory(round(960.5 * mib), 0, 0, 0, 0)
    on_cpu = Buffers()
    on_cpu.hear(2, LOG.splitlines()[0])
    assert on_cpu.on_gpus(0) is None


def test_the_most_of_all_batch_sizes_is_known_only_where_all_are() -> None:
    small, large = (BatchMemory(1, None, None, DeviceMemory(n, 2, 3, 4, 50)) for n in (10, 20))
    assert _most_needed([small, large, small]) == 29
    assert _most_needed([small, BatchMemory(1, None, None)]) is None


def on_gpu(record: RunRecord, needed: int | None, held: int | None) -> RunRecord:
    content = content_of(record, "bench")
    content |= {"device": "cuda", "device_peak_memory_bytes": needed}
    told = None if held is None else {"bytes": held, "counted": "processes"}
    for batch in content["batches"]:
        batch["memory"] = {"peak": 5, "kv_cache": None, "activations": None, "held": told}
    return record


def test_the_memory_of_a_gpu_is_compared_and_never_the_machines() -> None:
    made = [recipe(n, f"r{n}", 20.0, 40.0, 100) for n in range(4)]
    one, two = on_gpu(made[0], 7, 50), on_gpu(made[1], 6, 50)
    unknown, elsewhere = on_gpu(made[2], None, None), made[3]
    rows = [rows_of([one])[-1] for one in (one, unknown, elsewhere)]
    assert [(row.peak_memory_bytes, row.held_memory_bytes) for row in rows] == [
        (7, 50),
        (None, None),
        (200, None),
    ]
    compared = [
        [(figure.a, figure.b) for figure in figures(one, other) if "memory" in figure.name]
        for other in (two, unknown, elsewhere)
    ]
    assert compared == [[(7, 6)], [], []]


def test_an_older_results_memory_of_a_gpu_is_not_known() -> None:
    """It had the cache that was set aside, or was one GPU's of several."""
    content = whole("bench", {"device": "cuda", "device_peak_memory_bytes": 7})
    assert BENCH.read(content, 4).memory_bytes == 7
    assert BENCH.read(content, 3).memory_bytes is None
    content = whole("bench", {"device": "cpu", "peak_memory_bytes": 9})
    assert BENCH.read(content, 3).memory_bytes == 9


def test_a_servers_memory_of_gpus_is_apart_from_its_memory_of_the_machine() -> None:
    content = whole("serving", {"server_peak_memory_bytes": 5, "levels": []})
    assert SERVING.metrics(SERVING.read(content, 1))["serving/server_device_memory_bytes"] is None
    content["server_device_memory"] = {"bytes": 9, "counted": "device"}
    told = SERVING.metrics(SERVING.read(content, 1))
    assert told["serving/server_peak_memory_bytes"] == 5
    assert told["serving/server_device_memory_bytes"] == 9


class Loaded:
    """A model on a GPU: what it takes grows with the batch, and loading it took the most."""

    reserves_kv_cache = False

    def __init__(self, told: Callable[..., None]) -> None:
        self.told, self.peak = told, 10**9

    def generate(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> GenerationTiming:
        self.peak = max(self.peak, 100 * batch_size)
        self.told(STUB_PROCESSES=f"3,{os.getpid()},{1000 * batch_size}")
        return GenerationTiming(0.1, [0.1] * (new_tokens - 1))

    def begin_device_peak(self) -> None:
        self.peak = 0

    def device_memory(self) -> DeviceMemory:
        return DeviceMemory(500, 7, self.peak, 0, 9000)

    def footprint(self) -> Footprint:
        return Footprint(500, 500, 1, {"bfloat16": 500})

    def measured_kv_cache_bytes_per_token(self) -> float:
        return 1.0

    def close(self) -> None:
        pass


def test_each_batch_size_has_its_own_memory(
    gpus: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What loading took at most is in none."""
    written(tmp_path)
    gpus()
    monkeypatch.setattr(measure_module, "load", lambda *_: Loaded(gpus))
    subject = replace(load_request(tmp_path), device="cuda")
    load = Bench(batch_sizes=[4, 1], prompt_tokens=8, new_tokens=4, warmups=1, repetitions=2)
    context = StageContext(tmp_path, tmp_path, tmp_path, 1, lambda *_: None, lambda make: make())
    result = measure(BenchRequest(subject, load, [], None, "fp32"), context)
    four, one = (batch.memory for batch in result.batches)
    assert four.device == DeviceMemory(500, 7, 400, 0, 9000)
    assert one.device == DeviceMemory(500, 7, 100, 0, 9000)
    assert (four.activations, one.activations) == (400, 100)
    assert (four.held, one.held) == (
        Held(4000, Counted.processes),
        Held(1000, Counted.processes),
    )
    assert result.memory_bytes == result.device_peak_memory_bytes == 907
    assert result.held_memory_bytes == 4000
    told = BENCH.metrics(result)
    assert told["bench/device_needed_bytes/batch_4"] == 907
    assert told["bench/device_kv_cache_reserved_bytes/batch_4"] == 9000
    assert told["bench/device_held_bytes/batch_1"] == 1000
