"""Neither a recipe's bytes nor its quality hang on the CPU's instructions or on engine.dtype."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import BFLOAT16, FLOAT32, TINY, Called, computing, here, records

pytestmark = pytest.mark.integration

RECIPES = {
    "gptq-w4a16-g32": ("method=gptq", "bits=w4a16"),
    # bitsandbytes has products in bfloat16 for CPUs with instructions for it.
    "bnb_4bit-nf4-g64": ("method=bnb_4bit", "bits=nf4", "group_size=g64"),
}
QUANTIZES = ("stages=[quantize,eval]", "tracker=none", "calibration.samples=4",
             "calibration.sequence_length=64")  # fmt: skip


def run(variables: dict[str, str], cwd: Path, *overrides: str) -> Called:
    done = here(*TINY, *QUANTIZES, *overrides, cwd=cwd, variables=variables)
    assert done.returncode == 0, done.stderr
    return done


def digests(store: Path, key: str) -> dict[str, str]:
    place = store / "objects" / "quantize" / key / "checkpoint"
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stage(record: dict[str, Any], name: str, subject: str = "recipe") -> dict[str, Any]:
    return next(s for s in record["stages"] if (s["stage"], s["subject"]) == (name, subject))


@pytest.mark.parametrize("label", RECIPES)
def test_one_recipe_is_one_checkpoint_and_one_quality_on_every_cpu(
    label: str, fresh: dict[str, str], tmp_path: Path
) -> None:
    store, made = Path(fresh["QUANT_RUNNER_STORE"]), []
    for sweep, cpu, dtype in (("new", BFLOAT16, "bfloat16"), ("old", FLOAT32, "float32")):
        run(
            computing(fresh, cpu), tmp_path, *RECIPES[label], f"sweep={sweep}",
            f"engine.dtype={dtype}", "force=[quantize,eval]",
        )  # fmt: skip
        (record,) = records(store, sweep)
        assert record["label"] == label
        made.append((record, digests(store, stage(record, "quantize")["key"])))
    (new, bytes_new), (old, bytes_old) = made
    assert not any(entry["reused"] for entry in old["stages"] if entry["stage"] == "eval")
    assert bytes_new == bytes_old
    assert stage(new, "quantize")["key"] == stage(old, "quantize")["key"]
    assert stage(new, "eval")["key"] == stage(old, "eval")["key"]
    one, other = (stage(record, "eval")["result"] for record in (new, old))
    assert one["arithmetic"] == other["arithmetic"] == FLOAT32
    for name in ("kl_divergence", "top_1_agreement"):
        mean = other["divergence"][name]["mean"]["estimate"]
        assert one["divergence"][name]["mean"]["estimate"] == pytest.approx(mean, abs=1e-4)
    assert one["change"]["ratio"]["estimate"] == pytest.approx(
        other["change"]["ratio"]["estimate"], abs=1e-4
    )


def test_a_narrow_type_has_its_floor_beside_it_and_is_not_compared_with_float32(
    fresh: dict[str, str], tmp_path: Path
) -> None:
    recipe = ("method=rtn", "bits=w8a16")
    varied = run(
        fresh, tmp_path, *recipe, "sweep=wide", "eval.floor=[float32,bfloat16,threads,batch_size]"
    ).stdout
    assert "bfloat16 against float32: the arithmetic alone" in varied
    said = run(fresh, tmp_path, *recipe, "sweep=narrow", "eval.dtype=bfloat16").stdout
    assert "bfloat16 against float32" in said
    store = Path(fresh["QUANT_RUNNER_STORE"])
    (wide,), (narrow,) = records(store, "wide"), records(store, "narrow")
    assert stage(wide, "quantize")["key"] == stage(narrow, "quantize")["key"]
    subjects = {e["subject"]: e["result"] for e in wide["stages"] if e["stage"] == "floor"}
    assert list(subjects) == ["bfloat16", "threads", "batch_size"], "float32 is its own"
    for subject, found in subjects.items():
        kl = found["divergence"]["kl_divergence"]["mean"]["estimate"]
        # Whether products hang on threads and batches is the CPU's.
        assert kl > 0 if subject == "bfloat16" else 0 <= kl < 1e-6
    threads = {e["subject"]: e["result"]["resources"]["threads"] for e in wide["stages"]}
    assert threads["threads"] != threads["recipe"]
    floor = stage(narrow, "floor", "baseline")["result"]
    assert floor["arithmetic"] == stage(narrow, "eval")["result"]["arithmetic"] == "bfloat16"
    assert floor["divergence"]["kl_divergence"]["mean"]["estimate"] > 0
    assert floor["change"]["baseline"] == pytest.approx(
        stage(wide, "eval", "baseline")["result"]["perplexity"]["value"]
    )
    compared = [
        here(
            "stages=[compare]", "compare.a=wide", "compare.b=narrow", *more, cwd=tmp_path,
            variables=fresh,
        ).stdout
        for more in ([], ["compare.allow_different_dtypes=true"])
    ]  # fmt: skip
    assert "computed in bfloat16 and in float32" in compared[0]
    assert "computed in" not in compared[1]


def test_weights_rounded_in_bfloat16_are_another_recipe(
    fresh: dict[str, str], tmp_path: Path
) -> None:
    run(fresh, tmp_path, "method=rtn", "bits=w8a16", "sweep=a", "stages=[quantize]")
    run(
        fresh, tmp_path, "method=rtn", "bits=w8a16", "sweep=b", "stages=[quantize]",
        "method.rounding_dtype=bfloat16",
    )  # fmt: skip
    store = Path(fresh["QUANT_RUNNER_STORE"])
    found = [record for sweep in "ab" for record in records(store, sweep)]
    assert [r["label"] for r in found] == [
        "rtn-w8a16-g32", "rtn-w8a16-g32,rounding_dtype=bfloat16",
    ]  # fmt: skip
    made = [stage(record, "quantize") for record in found]
    assert [one["result"]["rounded_in"] for one in made] == ["float32", "bfloat16"]
    weights = [digests(store, one["key"])["model.safetensors"] for one in made]
    assert weights[0] != weights[1]
