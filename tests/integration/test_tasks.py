"""Tasks through the real lm-evaluation-harness: its numbers, pairs, kills, and no hub."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from scipy import stats

from runner.config.schema.tasks import Items, ItemsMaker
from runner.data.task_items.make import make_items
from runner.errors import UsageError
from runner.evaluation.lm_eval.evaluate import evaluate, load_tasks, task_manager
from runner.evaluation.lm_eval.task_files import (
    DATA_FILE,
    EXAMPLES_FILE,
    OwnTask,
    write_task,
)
from runner.util.paths import conf_dir
from tests.integration.conftest import Called, base_model, here, keys, records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

SMALL = ("model=tiny", "group_size=g32", "method=rtn", "stages=[quantize,tasks]", "tracker=none")
WAIT_SECONDS = 500
"""Only ever reached by a hang."""


def stage(record: dict[str, Any], subject: str) -> dict[str, Any]:
    """What the stage found."""
    (found,) = (
        entry["result"]
        for entry in record["stages"]
        if (entry["stage"], entry["subject"]) == ("tasks", subject)
    )
    return dict(found)


def samples(store: Path, record: dict[str, Any], subject: str) -> list[dict[str, Any]]:
    """Every item's answer."""
    (key,) = (key for who, key, _ in keys(record, "tasks") if who == subject)
    lines = (store / "objects" / "tasks" / key / "samples.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_scores_are_those_of_the_lm_eval_command(
    command: Callable[..., Called], store: Path, tmp_path: Path
) -> None:
    called = command(
        "method=none", "stages=[tasks]", "tasks=packaged", "tasks.names=[next_sentence,last_word]",
        "tasks.limit=4", "tasks.batch_size=4", "tasks.num_fewshot=1", "engine.dtype=float32",
        "tracker=none", "sweep=command",
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    assert "accuracy" in called.stdout
    (record,) = records(store, "command")
    ours, words = stage(record, "baseline")["tasks"]
    # Words that stand earlier in the passage: a blank too few before them and none is found.
    assert words["scores"][0]["value"] >= 0.5
    (key,) = (key for _, key, _ in keys(record, "tasks"))
    model = base_model(store, record)
    done = subprocess.run(
        [
            sys.executable, "-m", "lm_eval", "run", "--model", "hf",
            "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu",
            "--include_path", str(store / "objects" / "tasks" / key / "tasks"),
            "--tasks", "next_sentence", "--limit", "4", "--batch_size", "4",
            "--num_fewshot", "1", "--log_samples", "--output_path", str(tmp_path / "out"),
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").rglob("results_*.json")
    theirs = json.loads(path.read_text())["results"]["next_sentence"]
    assert {score["metric"] for score in ours["scores"]} == {"acc", "acc_norm"}
    for score in ours["scores"]:
        assert score["value"] == theirs[f"{score['metric']},none"]
        assert score["standard_error"] == theirs[f"{score['metric']}_stderr,none"]
    (path,) = (tmp_path / "out").rglob("samples_*.jsonl")
    logged = {line["doc_id"]: line for line in map(json.loads, path.read_text().splitlines())}
    mine = [s for s in samples(store, record, "baseline") if s["task"] == "next_sentence"]
    assert len(mine) == len(logged) == 4
    for sample in mine:
        other = logged[sample["item"]]
        # Every digit: the same batches through the same arithmetic.
        said = [float(pair[0]) for pair in other["filtered_resps"]]
        assert sample["log_likelihoods"] == said
        assert sample["prompt_sha256"] == other["prompt_hash"]


CONTINUING = (
    "tasks=packaged", "+task@tasks.own.local=local", "tasks.names=[facts,local]",
    "tasks.own.local.harness.output_type=generate_until",
    "tasks.own.local.harness.doc_to_target='{{target}}'", "~tasks.own.local.harness.doc_to_choice",
    "+tasks.own.local.harness.generation_kwargs={until:['\n\n'],do_sample:false,max_gen_toks:8}",
    "tasks.own.local.harness.metric_list=[{metric:exact_match}]",
)  # fmt: skip
"""A task whose answers are written by the model, beside one whose answers are chosen."""


@pytest.mark.environments("lm_eval_vllm_cpu", "llama_cpp")
@pytest.mark.parametrize("engine", ["llama_cpp", "vllm"])
def test_engines_find_the_likelihoods_and_write_the_answers_that_transformers_does(
    engine: str, command: Callable[..., Called], store: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    """On a model that is lost without a BOS, which each of them has to put before prompts."""
    texts = ("the capital of France is", "one two three four", "a", "a dark and stormy night", "I")
    items = tmp_path_factory.getbasetemp() / "continuing.jsonl"
    if not items.exists():  # its time is part of a result's key
        items.write_text("\n".join(json.dumps({"text": t, "target": "x"}) for t in texts))
    found = {}
    for asked in ("hf", engine):
        further: tuple[str, ...] = ("engine.dtype=float32", "eval.dtype=float32")
        if asked == "llama_cpp":  # its arithmetic is its own
            further = ()
        further += ("engine.enforce_eager=true",) if asked == "vllm" else ()
        called = command(
            "model=zoo/gemma3", "method=none", "stages=[tasks]", *CONTINUING,
            f"tasks.own.local.items.path={items}", "tasks.own.local.items.examples=1",
            "tasks.limit=4", "tasks.batch_size=3", f"engine={asked}", *further,
            "tasks.apply_chat_template=null", "tracker=none", f"sweep=tasks_{asked}_{engine}",
        )  # fmt: skip
        assert called.returncode == 0, called.stderr
        (record,) = records(store, f"tasks_{asked}_{engine}")
        told = stage(record, "baseline")
        assert (told["leading_bos"], told["chat_template"]) == (True, False), "it has no template"
        found[asked] = samples(store, record, "baseline")
    assert len(found["hf"]) == len(found[engine]) == 8
    for ours, theirs in zip(found["hf"], found[engine], strict=True):
        assert theirs["prompt_sha256"] == ours["prompt_sha256"]
        assert theirs["answer"] == ours["answer"]
        if ours["log_likelihoods"] is not None:
            assert theirs["log_likelihoods"] == pytest.approx(ours["log_likelihoods"], abs=0.01)
    assert any(sample["answer"] for sample in found["hf"] if sample["task"] == "local")


def test_a_killed_attempt_is_gone_on_with_and_every_item_is_paired(
    fresh: dict[str, str], tmp_path: Path
) -> None:
    store = Path(fresh["QUANT_RUNNER_STORE"])

    def command(*arguments: str) -> Called:
        return here(*arguments, cwd=tmp_path, variables=fresh)

    arguments = (*SMALL, "tasks=packaged", "tasks.names=[definition]", "tasks.limit=400")
    process = psutil.Popen(
        [sys.executable, "-m", "runner", *arguments, "sweep=tasks_killed"],
        cwd=tmp_path, env=fresh, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + WAIT_SECONDS
    lines = 0
    while lines < 200 and process.poll() is None and time.monotonic() < deadline:
        kept = list((store / "partial").glob("tasks-*/definition.jsonl"))
        lines = kept[0].read_bytes().count(b"\n") if kept else 0
        time.sleep(0.01)
    # Each may end before it is killed, when another is gone that it depends on.
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
    assert lines >= 200, process.communicate()[0]
    process.communicate()

    called = command(*arguments, "sweep=tasks_again")
    assert called.returncode == 0, called.stderr
    (record,) = records(store, "tasks_again")
    baseline, recipe = stage(record, "baseline"), stage(record, "recipe")
    assert baseline["requests_resumed"] >= 200
    assert recipe["requests_resumed"] == 0
    assert not list((store / "partial").glob("tasks-*"))
    before, after = (samples(store, record, who) for who in ("baseline", "recipe"))
    assert len(before) == len(after) == 400
    (score,) = recipe["tasks"][0]["scores"]
    right = [(old["scores"]["acc"], new["scores"]["acc"]) for old, new in zip(before, after)]  # noqa: B905
    lost, gained = right.count((1.0, 0.0)), right.count((0.0, 1.0))
    test = score["change"]["mcnemar"]
    assert lost + gained > 0
    assert (test["lost"], test["gained"]) == (lost, gained)
    assert test["p_value"] == pytest.approx(stats.binomtest(lost, lost + gained).pvalue)
    assert score["change"]["delta"] == pytest.approx((gained - lost) / 400)
    assert recipe["overall"]["baseline_mean"] == baseline["tasks"][0]["scores"][0]["value"]

    called = command(*arguments, "sweep=reused", "tasks.floor=[batch_size]")
    assert called.returncode == 0, called.stderr
    (record,) = records(store, "reused")
    assert all(reused for _, _, reused in keys(record, "tasks"))
    (floor,) = (entry for entry in record["stages"] if entry["stage"] == "tasks_floor")
    assert (floor["subject"], floor["reused"]) == ("batch_size", False)
    (score,) = floor["result"]["tasks"][0]["scores"]
    assert score["change"]["baseline"] == baseline["tasks"][0]["scores"][0]["value"]
    assert "another batch size: the arithmetic alone" in called.stdout


def test_a_task_that_needs_a_hub_says_so_without_one(tmp_path: Path) -> None:
    """What the first job of a run does, with this one task's file instead of all 14,000."""
    (tmp_path / "far.yaml").write_text(
        "task: far\ndataset_path: nobody/no_such_data\noutput_type: multiple_choice\n"
        "test_split: test\ndoc_to_text: text\ndoc_to_choice: choices\ndoc_to_target: answer\n"
    )
    code = (
        "import sys; from pathlib import Path; from runner.errors import StageError\n"
        "from runner.evaluation.lm_eval.evaluate import load_tasks, task_manager\n"
        "manager = task_manager([Path(sys.argv[1])], False)\n"
        "try: load_tasks(manager, ['far'], True)\n"
        "except StageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "task far needs data from the hub (http://127.0.0.1:9), which does not answer" in (
        done.stdout
    )
    assert "tasks=packaged needs no hub" in done.stdout


@pytest.mark.parametrize(
    "suite",
    [
        "arithmetic", "lists", "functions", "tool_calls", "instructions",
        "needle", "variables", "copying",
    ],
)  # fmt: skip
def test_the_harness_scores_what_an_ideal_model_would_write(suite: str, tmp_path: Path) -> None:
    """Right answers come through its examples, stop words and scorers; others' do not."""
    from lm_eval.api.model import LM

    content = yaml.safe_load((conf_dir() / "task" / f"{suite}.yaml").read_text())
    settings = {**content["items"], "maker": ItemsMaker(suite), "count": 2, "pilot": 4}
    if "package" in settings:
        settings["path"] = str(tmp_path / "dump.xml")
        prose = "".join(
            f"The {word} has been known to many people since the old days, as the writers say. "
            for word in ("river", "garden", "castle", "engine", "harbour", "theatre", "bridge")
        )
        page = f"<page><ns>0</ns><revision><text>{prose.strip()}</text></revision></page>"
        (tmp_path / "dump.xml").write_text(f"<mediawiki>{page}</mediawiki>")
    made = make_items(Items(**settings), tmp_path)
    for file, items in ((DATA_FILE, made.scored), (EXAMPLES_FILE, made.examples)):
        (tmp_path / file).write_text("".join(json.dumps(item) + "\n" for item in items))
    levels = settings["levels"]
    task = OwnTask(content["harness"], tmp_path, content["scorer"], levels)
    write_task(tmp_path / "tasks", suite, task, levels)
    manager = task_manager([tmp_path / "tasks"], False)
    runs = suite == "functions"
    if runs:
        with pytest.raises(UsageError, match=r"runs programs .* tasks\.run_code=true"):
            load_tasks(manager, [suite], needs_hub=False)

    class Ideal(LM):
        """Writes the target of an item, and goes on as models do."""

        def __init__(self, further: int) -> None:
            super().__init__()
            self.further = further

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            written = []
            for place, request in enumerate(requests):
                other = requests[(place + self.further) % len(requests)]
                answer = content["harness"]["target_delimiter"] + other.doc["target"]
                answer += "\n\n" + request.args[0]
                for stop in request.args[1]["until"]:
                    answer = answer.partition(stop)[0]
                written.append(answer)
            return written

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    for further, share in ((0, 1.0), (1, 0.0)):
        loaded = load_tasks(manager, [suite], needs_hub=False, run_code=runs)
        found = evaluate(
            Ideal(further), loaded[suite], num_fewshot=None, limit=None,
            apply_chat_template=False, seed=None, run_code=runs,
        )  # fmt: skip
        assert found["results"][suite]["acc,none"] == share
        assert found["n-samples"][suite]["effective"] == 2 * len(levels)


def test_a_name_that_does_not_exist_is_refused_at_once(command: Callable[..., Called]) -> None:
    called = command("tasks.names=[helaswag]", "tracker=none")
    assert called.returncode == 2
    assert "there is no task helaswag; did you mean hellaswag" in called.stderr


def test_task_files_of_ones_own_are_asked_by_group(
    command: Callable[..., Called], store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    words = [("the cat sat on the", "mat"), ("one two three", "four"), ("a b c", "d")]
    for name, count in (("endings", 3), ("counting", 2)):
        lines = [
            json.dumps({"text": text, "choices": [end, "zebra"], "answer": 0})
            for text, end in words[:count]
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        (folder / f"{name}.yaml").write_text(
            f"task: {name}\ndataset_path: json\n"
            f"dataset_kwargs: {{data_files: {{test: {folder / name}.jsonl}}}}\n"
            "output_type: multiple_choice\ntest_split: test\ndoc_to_text: text\n"
            "doc_to_choice: choices\ndoc_to_target: answer\n"
        )
    (folder / "both.yaml").write_text(
        "group: both\ntask: [endings, counting]\n"
        "aggregate_metric_list: [{metric: acc, aggregation: mean, weight_by_size: true}]\n"
    )
    (folder / "made.py").write_text(
        "from pathlib import Path\nimport datasets\n"
        "def items(length, tokenizer, **_):\n"
        "    assert (Path(tokenizer) / 'config.json').is_file()\n"
        "    row = {'text': 'a', 'choices': ['b', 'c'], 'answer': 0}\n"
        "    return {'test': datasets.Dataset.from_list([row] * length)}\n"
    )
    (folder / "made.yaml").write_text(
        "task: made\ncustom_dataset: !function made.items\n"
        "output_type: multiple_choice\ntest_split: test\ndoc_to_text: text\n"
        "doc_to_choice: choices\ndoc_to_target: answer\n"
    )
    called = command(
        "model=tiny", "method=none", "stages=[tasks]", "tracker=none", "tasks.names=[both,made]",
        f"tasks.include=[{folder}]", "+tasks.metadata.length=4", "sweep=own_files",
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    (record,) = records(store, "own_files")
    found = {task["task"]: task for task in stage(record, "baseline")["tasks"]}
    assert set(found) == {"both", "endings", "counting", "made"}
    assert found["made"]["items"] == 4, "made to the measure of tasks.metadata"
    answered = samples(store, record, "baseline")
    right = {task: [s["scores"]["acc"] for s in answered if s["task"] == task] for task in found}
    assert [len(right[task]) for task in ("endings", "counting", "both")] == [3, 2, 0]
    (of_both,) = (s["value"] for s in found["both"]["scores"] if s["metric"] == "acc")
    assert of_both == pytest.approx(sum(right["endings"] + right["counting"]) / 5)


def test_generated_text_is_compared_and_the_models_own_text_is_evaluated(
    command: Callable[..., Called], store: Path
) -> None:
    called = command(
        "model=tiny", "group_size=g32", "method=rtn", "bits=w4a16", "tracker=none",
        "stages=[quantize,eval,tasks]", "tasks=continuations", "tasks.limit=6", "eval.windows=4",
        "eval.context_length=64", "text@eval.text=continuations", "eval.text.documents=20",
        "sweep=generated",
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    (record,) = records(store, "generated")
    before, after = (samples(store, record, who) for who in ("baseline", "recipe"))
    (task,) = stage(record, "recipe")["tasks"]
    found, change = task["generation"], task["generation"]["change"]
    assert task["scores"] == []
    assert (found["answers"], found["at_limit"]) == (6, 1.0)
    shared = []
    for old, new in zip(before, after, strict=True):
        pair = old["generated"]["tokens"], new["generated"]["tokens"]
        assert len(pair[0]) == len(pair[1]) == 96
        shared.append(next((n for n, (a, b) in enumerate(zip(*pair, strict=True)) if a != b), 96))
    assert change["common_tokens"]["estimate"] == pytest.approx(sum(shared) / 6)
    assert change["length_ratio"]["estimate"] == 1.0
    (baseline,) = stage(record, "baseline")["tasks"]
    assert baseline["generation"]["change"] is None

    # The text is this model's: beginnings of articles, and something else than the articles after.
    texts = {
        path.parent.parent.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in store.glob("objects/*/*/documents.jsonl")
        if hashlib.sha256(path.read_bytes()).hexdigest() == record["text_sha256"]
    }
    articles = [
        json.loads(line)
        for path in store.glob("objects/text/*/documents.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert 10 < len(texts["continued"]) <= 20
    for written in texts["continued"]:
        # Its vocabulary of a few hundred tokens does not tell all rare characters apart.
        assert any(article.startswith(written[:8]) for article in articles)
        assert written not in articles
