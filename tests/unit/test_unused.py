"""Settings that what was chosen does not read are wrong requests, whatever section they are in."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from runner.config.schema.eval import EvalDtype
from runner.config.schema.model import Model, ModelKind
from runner.config.schema.root import Config, StageName
from runner.config.schema.tasks import Items, ItemsMaker
from runner.config.schema.text import Text, TextKind, TextReader
from runner.config.schema.tracker import Tracker, TrackerMode
from runner.config.text_by_name import resolve_text
from runner.errors import UsageError
from runner.reporting.tracking import tracker_names
from runner.validation.unused import Effects, refuse_unused, settings_of, unread_by_tracker, unused
from runner.validation.verdict import Severity

pytestmark = pytest.mark.unit

Compose = Callable[..., Config]

IDLE = [
    ("eval.text.path=a.jsonl", "eval.text is wikipedia, of kind package", "text@eval.text=local"),
    ("eval.text.hub_id=a/b", "which does not read hub_id", "text@eval.text=c4"),
    ("eval.text.revision=x", "which does not read revision", ""),
    ("text@eval.text=python_docs eval.text.field=x", "which does not read field", ".reader=jsonl"),
    (
        "text@eval.text=local eval.text.path=a.txt eval.text.field=x",
        "read by reader plain, which does not read field",
        "eval.text.reader=jsonl",
    ),
    (
        "text@eval.text=local eval.text.path=a.txt eval.text.version=1",
        "eval.text is a.txt, of kind file, which does not read version",
        "text@eval.text=",
    ),
    ("calibration.text.path=a.txt", "calibration.text is openwebtext", "text@calibration.text="),
    ("engine=vllm serving.min_attainment=95%", "serving has no max_concurrency", ""),
    ("serving.concurrencies=[] serving.arrival_rates=[1] serving.warmup_rounds=1",
     "serving has arrival rates alone", ""),
    ("calibration.minimum_length=9", "calibration joins documents", ""),
    ("method=rtn calibration.samples=8", "method=rtn with these settings", "method=gptq"),
    ("method=bnb_4bit calibration.seed=1", "needs no calibration text", "method=awq"),
    ("bits=auto sensitivity.text.path=x stages=[quantize]", "sensitivity.text is openwebtext",
     "text@sensitivity.text=local"),
    ("compare.a=x", "stages has no compare", "runner compare"),
    ("stages=[quantize,bench] decide.max_kl=0.1", "stages has no eval",
     "stages=[quantize,bench,eval]"),
    ("stages=[quantize,eval] decide.goal=speed", "stages has no bench", "bench]"),
    ("decide.min_recovery=99%", "tasks.names is empty", "tasks=packaged"),
    ("stages=[plan] decide.max_checkpoint_bytes=9", "a plan measures nothing", "plan."),
    ("tasks.limit=9", "tasks.names is empty", "tasks=packaged"),
    ("tasks=packaged tasks.names=[facts] tasks.own.addition.items.count=9", "addition is not among",
     "tasks.names=[addition]"),
    ("tasks=local tasks.own.local.items.path=x tasks.own.local.items.seed=1",
     "made by jsonl, which does not read seed", ""),
    ("tasks=packaged tasks.own.addition.items.path=x", "made by addition, which does not read", ""),
    ("tasks=packaged +tasks.metadata.length=4", "the runner's own, which read none", "tasks=long"),
    ("model=tiny model.path=/x", "model is tiny, of kind generated", "model=local"),
    ("model=tiny model.hub_id=a/b", "which does not read hub_id", "model=hub"),
    ("model=local model.path=/x model.seed=1", "model is x, of kind local, which does not read",
     "model="),
    ("model=local model.path=/x model.revision=y", "which does not read revision", "model=hub"),
    ("model=hub model.hub_id=a/b model.sha256=y", "which does not read sha256", ""),
    ("bits.candidates=[3,4]", "bits has no budget", ""),
    ("bits=auto bits.weight.num_bits=3", "bits has a budget", ""),
    ("method.activation_scales=static", "bits rounds no activations", "bits=w8a8"),
    ("method.keep_bits=8", "method keeps no layer at another width", ""),
    ("method=autoround method.format=gptq", "llm_compressor, which writes compressed-tensors", ""),
    ("eval.divergence=false eval.top_k=5", "eval compares no distributions", ""),
    ("engine=vllm engine.device=cpu engine.gpu_memory_utilization=0.5", "runs on the CPU", ""),
    ("tracker=none tracker.tags=[x]", "tracker is none, which does not read tags", ""),
    ("tracker=trackio tracker.entity=x", "tracker is trackio, which does not read entity", ""),
]  # fmt: skip
"""A request whose setting with a dot that comes last has no effect; why; what would read it."""


@pytest.mark.parametrize(("request_", "why", "nearest"), IDLE, ids=[one[0] for one in IDLE])
def test_a_setting_without_effect_is_named_with_what_would_read_it(
    request_: str, why: str, nearest: str, composed: Compose
) -> None:
    overrides = request_.split()
    config = composed(*overrides)
    found = unused(config, overrides)
    idle = next(o for o in reversed(overrides) if "." in o.partition("=")[0] and "@" not in o)
    (verdict,) = found.values()
    idle = idle.removeprefix("+")
    assert str(verdict).startswith(f"{idle} has no effect: ") and why in verdict.reason
    assert nearest in (verdict.nearest or "")
    if nearest == "model=hub":
        assert verdict.nearest == nearest, "the one option that is made for setting it"
    if verdict.severity is Severity.warning:
        assert refuse_unused(config, overrides) == [str(verdict)]
        return
    with pytest.raises(UsageError, match="has no effect"):
        refuse_unused(config, overrides)


READ = [
    "eval.windows=8 bench.repetitions=2 calibration.samples=8 method.sym=false model.name=x",
    "text@eval.text=local eval.text.path=a.jsonl eval.text.field=x eval.text.errors=replace",
    "text@eval.text=local eval.text.path=a.jsonl stages=[quantize]",
    "text@eval.text=local eval.text.path=somewhere eval.text.reader=parquet eval.text.field=x",
    "eval.text.kind=file eval.text.reader=plain eval.text.path=x",
    "calibration=local calibration.text.path=x.json calibration.text.conversation=true",
    "calibration=mixed calibration.samples=8 calibration.sources=[{text: bible, weight: 1}]",
    "calibration.cut=per_sample calibration.minimum_length=9",
    "method=rtn bits=w8a8 method.activation_scales=static calibration.samples=8",
    "bits=auto bits.candidates=[3,4] sensitivity.windows=2",
    "method.keep_most_sensitive=3 sensitivity.windows=2",
    "method.keep=[down_proj] method.keep_bits=8",
    "model=tiny model.seed=3 model.architecture.hidden=128",
    "model=hub model.hub_id=a/b model.revision=x model.trust_remote_code=true",
    "tasks=packaged tasks.limit=9 tasks.own.facts.items.count=9 tasks.own.facts.items.path=x",
    "stages=[eval] bench.batch_sizes=[8] calibration.samples=8 tasks.limit=9 plan.concurrency=2",
    "stages=[compare] compare.a=x compare.b=y",
    "tracker=wandb tracker.tags=[x] tracker.mode=online tracker.job_type=x",
    "tracker=trackio tracker.project=x",
    "hydra.sweeper.max_batch_size=2 store.root=/x launch.on_failure=stop sweep=a.b",
]


@pytest.mark.parametrize("request_", READ)
def test_a_setting_that_is_read_is_none_of_them(request_: str, composed: Compose) -> None:
    overrides = request_.replace(": ", ":").replace(", weight", ",weight").split()
    given = [override for override in overrides if not override.startswith("hydra.")]
    assert unused(composed(*given), overrides) == {}


def test_choices_of_options_are_no_settings() -> None:
    given = ["eval=quick", "text@eval.text=local", "+task@tasks.own.it=addition", "~a.b",
             "hydra.x=1", "hydra/launcher=ray", "+method.speed=3", "sweep=a.b"]  # fmt: skip
    assert settings_of(given) == {"method.speed": "3"}
    assert settings_of(["a.b=c=d.e", "++a.c=", "a.d", "x=1.5"]) == {"a.b": "c=d.e", "a.c": ""}


def test_in_a_sweep_one_job_that_reads_it_is_enough(composed: Compose) -> None:
    def told(*jobs: list[str]) -> None:
        effects = Effects()
        for job in jobs:
            effects.note(job, composed(*job))
        effects.refuse()

    told(["model=tiny", "model.path=/x"], ["model=local", "model.path=/x"])
    with pytest.raises(UsageError, match=r"model\.path=/x has no effect: model is tiny"):
        told(["model=tiny", "model.path=/x"], ["model=generated_50m", "model.path=/x"])
    # Of what method reads the calibration nobody can be mistaken.
    told(["method=rtn", "calibration.samples=8"])


PATH = ["model=tiny", "model.path=/x"]


def test_of_a_sweep_every_setting_without_effect_is_told_at_once(composed: Compose) -> None:
    effects = Effects()
    effects.refuse()
    several = [*PATH, "model.hub_id=a/b", "store.root=/s"]
    assert effects.unclear(several)
    effects.note(several, composed(*several))
    with pytest.raises(UsageError) as error:
        effects.refuse()
    start, path, hub, *rest = re.split(r"(?=model\.\w+=\S+ has no effect)", str(error.value))
    assert (start, rest) == ("", [])
    assert path.startswith("model.path=/x") and hub.startswith("model.hub_id=a/b")
    assert path.endswith("; ")
    assert effects.unclear(several), "a later job may read them"
    assert not effects.unclear(["store.root=/t", "model=x"])
    # A job that could not be composed may have read them; nothing is held against it.
    effects.note(several, None)
    assert not effects.unclear(several)
    effects.refuse()


def test_one_job_that_reads_a_setting_is_enough_in_either_order(composed: Compose) -> None:
    reads = ["model=local", "model.path=/x"]
    jobs = [(PATH, composed(*PATH)), (reads, composed(*reads))]
    for order in (jobs, jobs[::-1]):
        effects = Effects()
        for job, config in order:
            effects.note(job, config)
        effects.refuse()


def test_what_is_only_told_is_settled_by_its_first_job(composed: Compose) -> None:
    job = ["method=rtn", "calibration.samples=8"]
    config, effects = composed(*job), Effects()
    effects.note(job, config)
    assert not effects.unclear(job)
    effects.refuse()
    (told,) = refuse_unused(config, job)
    assert "method=rtn with these settings needs no calibration text" in told
    # Of a harmless and a wrong one the wrong one is refused, alone.
    with pytest.raises(UsageError) as error:
        refuse_unused(config, [*job, "tasks.limit=9"])
    assert str(error.value).startswith("tasks.limit=9 has no effect: tasks.names is empty")
    assert "calibration" not in str(error.value)


def test_a_setting_is_of_a_section_by_whole_names(composed: Compose) -> None:
    config = composed("method=rtn")
    assert unused(config, ["calibration=local", "calibrations.x=1", "method.sym=false"]) == {}
    assert list(unused(config, ["+calibration.text.path=x", "eval.windows=8"])) == [
        "calibration.text.path"
    ]
    config.stages = [StageName.eval]
    assert unused(config, ["calibration.samples=8"]) == {}, "its stage is left out"


def test_types_of_arithmetic_that_something_else_decides(composed: Compose) -> None:
    config = composed("method=gguf", "engine=llama_cpp")

    def idle(*settings: str) -> list[str]:
        return list(unused(config, settings))

    asked = ["eval.dtype=float32", "eval.floor=[]", "method.rounding_dtype=float32"]
    config.eval.dtype = EvalDtype.float32
    assert idle(*asked) == ["eval.dtype", "eval.floor", "method.rounding_dtype"]
    nearest = unused(config, asked)["eval.dtype"].nearest
    assert nearest == "eval.dtype=auto"
    for dtype in (EvalDtype.auto, EvalDtype.engine):
        config.eval.dtype = dtype
        assert idle("eval.dtype=x", "eval.floor=[]") == ["eval.floor"]
    # A measurement of sensitivity rounds by itself.
    config.stages = [StageName.quantize, StageName.sensitivity]
    assert idle("method.rounding_dtype=float32") == []
    config.stages = [StageName.eval]
    assert idle("method.rounding_dtype=float32") == []


def test_a_tracker_reads_the_fields_that_it_says() -> None:
    trackio, none = (unread_by_tracker(Tracker(name=name)) for name in ("trackio", "none"))
    assert list(trackio) == [
        "checkpoints", "connect_timeout_seconds", "entity", "job_type", "mode", "registry",
        "system_interval_seconds", "uri",
    ]  # fmt: skip
    assert trackio["mode"] == "is trackio, which does not read mode"
    assert none.keys() == {field.name for field in fields(Tracker)} - {"name", "directory"}
    offline, online = (unread_by_tracker(Tracker(name="wandb", mode=mode)) for mode in TrackerMode)
    assert list(online) == ["uri"]
    assert set(offline) == {"registry", "uri"}, "a link needs the server"
    assert unread_by_tracker(Tracker(name="nobodys")) == {}, "another rule names it"


def test_a_source_of_a_mix_refuses_what_its_text_does_not_read() -> None:
    with pytest.raises(UsageError, match="path has no effect: it is bible, of kind package"):
        resolve_text({"name": "bible", "path": "/x"})


def test_what_is_declared_is_there_and_every_kind_declares_it() -> None:
    """A field that is renamed, or a kind that is added, is not forgotten here."""
    for kinds, config in ((TextKind, Text), (TextReader, Text), (ModelKind, Model),
                          (ItemsMaker, Items)):  # fmt: skip
        names = {field.name for field in fields(config)}
        for kind in kinds:  # type: ignore[attr-defined]
            assert kind.fields <= names, kind
    for name in tracker_names():
        assert unread_by_tracker(Tracker(name=name)).keys() <= {
            field.name for field in fields(Tracker)
        }


def test_a_folder_may_hold_anything(tmp_path: Path, composed: Compose) -> None:
    overrides = ["text@eval.text=local", f"eval.text.path={tmp_path}", "eval.text.field=x"]
    assert unused(composed(*overrides), overrides) == {}


@pytest.mark.parametrize("goal", ["size", "quality"])
def test_a_goal_needs_a_stage_that_measures_anything(goal: str, composed: Compose) -> None:
    overrides = [f"decide.goal={goal}", "decide.max_checkpoint_bytes=1GB"]
    for stages in ("quantize,eval", "quantize,eval,tasks,bench", "report"):
        asked = [*overrides, f"stages=[{stages}]"]
        assert not unused(composed(*asked), asked)
