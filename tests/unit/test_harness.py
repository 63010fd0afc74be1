"""Names of tasks, kept answers and scores: everything about the harness that needs no harness."""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from runner.errors import StageError, UsageError
from runner.evaluation.lm_eval.answers import Answers
from runner.evaluation.lm_eval.cut import prompts_cut
from runner.evaluation.lm_eval.evaluate import _answers, load_tasks
from runner.evaluation.lm_eval.generating import generating, similar_lengths
from runner.evaluation.lm_eval.names import harness_tasks, task_names, unknown_task
from runner.evaluation.lm_eval.scores import Sample, TaskScores, overall, samples_of, scores_of
from runner.evaluation.lm_eval.stopping import StopsEach
from runner.evaluation.lm_eval.task_files import OwnTask, write_task
from runner.pipeline.stages.base import StageContext
from runner.pipeline.stages.tasks import Asking, TasksRequest
from runner.pipeline.stages.tasks.ask import ask as ask_tasks
from tests.unit.test_inputs import load_request

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class Request:
    args: tuple[Any, ...]


def ask(answers: Answers, requests: list[Request], die_after: int | None = None) -> list[str]:
    """What a model would compute: the length of what it is asked. Returns what it was asked."""
    asked = []

    def compute(left: list[Request]) -> list[tuple[float, bool]]:
        found = []
        for request in left:
            if die_after is not None and len(asked) == die_after:
                raise KeyboardInterrupt
            asked.append(request.args[0])
            found.append((len(request.args[0]) / 7, False))
            answers.add_partial("loglikelihood", request.args, found[-1])
        return found

    try:
        got = answers.complete("loglikelihood", requests, compute)
        assert got == [(len(request.args[0]) / 7, False) for request in requests]
    except KeyboardInterrupt:
        pass
    return asked


REQUESTS = [Request((text, " x")) for text in ("a", "bb", "ccc", "dddd", "a")]


def test_a_second_attempt_asks_only_what_the_first_did_not_get(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    said: list[tuple[int, int]] = []
    assert ask(Answers(path, lambda *_: None), REQUESTS, die_after=3) == ["a", "bb", "ccc"]
    again = Answers(path, lambda done, total: said.append((done, total)))
    assert again.found == 3
    assert ask(again, REQUESTS) == ["dddd"]
    assert said[0] == (4, 5) and said[-1] == (5, 5)
    assert ask(Answers(path, lambda *_: None), REQUESTS) == []


def test_half_a_line_of_a_killed_process_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    ask(Answers(path, lambda *_: None), REQUESTS)
    content = path.read_text()
    path.write_text(content[: len(content) - 5])
    assert ask(Answers(path, lambda *_: None), REQUESTS) == ["dddd"]
    assert path.read_text() == content


def test_drawn_answers_are_never_taken_for_others(tmp_path: Path) -> None:
    requests = [Request(("say", {"do_sample": True})), Request(("say", {"do_sample": True}))]
    answers = Answers(tmp_path / "answers.jsonl", lambda *_: None)
    assert answers.complete("generate_until", requests, lambda left: ["one", "two"]) == [
        "one", "two",
    ]  # fmt: skip
    assert (tmp_path / "answers.jsonl").read_text() == ""


def test_the_same_text_means_another_thing_to_another_method(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "answers.jsonl", lambda *_: None)
    one = [Request(("text",))]
    assert answers.complete("loglikelihood_rolling", one, lambda _: [-3.25]) == [-3.25]
    assert answers.complete("generate_until", [Request(("text", {}))], lambda _: ["b"]) == ["b"]


def test_names_are_read_off_task_files(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "plain.yaml").write_text("task: hellaswag\ntag: [easy, common]\n")
    (tmp_path / "one" / "_template").write_text('tag:\n  - listed\n  - "quoted"\noutput: x\n')
    (tmp_path / "group.yaml").write_text('"group": "mmlu"\ntask:\n  - mmlu_stem\n  - task: inner\n')
    (tmp_path / "utils.py").write_text("task: no\n")
    found = task_names(tmp_path)
    assert {"hellaswag", "easy", "common", "listed", "quoted", "mmlu", "mmlu_stem"} <= found
    assert not {"no", "output", "x"} & found


def test_a_wrong_name_is_answered_with_near_ones() -> None:
    said = unknown_task("helaswag", ["hellaswag", "mmlu", "winogrande"])
    assert "there is no task helaswag; did you mean hellaswag?" in said
    assert "did you mean" not in unknown_task("zzzz", ["hellaswag"])


def test_tasks_are_loaded_only_if_all_of_them_exist() -> None:
    index = SimpleNamespace(task_index={"mmlu": None}, all_tasks=["mmlu", "hellaswag"])
    with pytest.raises(UsageError, match=r"no task helaswag; did you mean hellaswag\?.*; .* zzzz"):
        load_tasks(index, ["mmlu", "helaswag", "zzzz"], needs_hub=False)


def test_task_files_are_found_where_the_harness_is_installed(tmp_path: Path) -> None:
    folders = [tmp_path / "lib", tmp_path / "lib64"]
    assert harness_tasks(folders) is None
    (folders[1] / "lm_eval" / "tasks").mkdir(parents=True)
    assert harness_tasks(folders) == folders[1] / "lm_eval" / "tasks"


def test_a_hub_that_forbids_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403 if "forbidden" in self.path else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        assert _answers(f"{address}/open")
        assert not _answers(f"{address}/forbidden")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not _answers(f"{address}/closed")


def logged(doc: int, likelihoods: list[float], target: int) -> dict[str, Any]:
    """A sample as lm-evaluation-harness logs it."""
    right = likelihoods.index(max(likelihoods)) == target
    return {
        "doc_id": doc, "filter": "none", "target": target, "metrics": ["acc"], "acc": float(right),
        "filtered_resps": [(value, False) for value in likelihoods],
        "doc": {}, "doc_hash": f"d{doc}", "prompt_hash": f"p{doc}",
    }  # fmt: skip


def found(value: float, task: str = "t", count: int = 4) -> dict[str, Any]:
    """The rest of what it returns."""
    return {
        "results": {task: {"alias": task, "acc,none": value, "acc_stderr,none": 0.125}},
        "higher_is_better": {task: {"acc": True}},
        "n-samples": {task: {"original": 9, "effective": count}},
        "n-shot": {task: 5},
        "versions": {task: 1.0},
    }


def scored(
    answers: list[int], before: Any = None, task: str = "t"
) -> tuple[TaskScores, list[Sample]]:
    """Scores of a model that gives these answers of 0, 1, 2 to items whose right answer is 0."""
    rows = [
        logged(doc, [-1.0 if choice == answer else -2.0 for choice in range(3)], 0)
        for doc, answer in enumerate(answers)
    ]
    samples = list(samples_of(task, "multiple_choice", rows))
    value = sum(answer == 0 for answer in answers) / len(answers)
    return scores_of(task, found(value, task), True, samples, before), samples


def test_samples_keep_what_was_answered_and_whether_it_is_right() -> None:
    _, samples = scored([0, 2])
    assert [sample["answer"] for sample in samples] == [0, 2]
    assert samples[1]["log_likelihoods"] == [-2.0, -2.0, -1.0]
    assert [sample["scores"] for sample in samples] == [{"acc": 1.0}, {"acc": 0.0}]
    assert json.loads(json.dumps(samples)) == samples


def test_a_change_counts_losses_gains_and_other_answers() -> None:
    before = scored([0, 0, 0, 1, 1])
    scores, _ = scored([0, 1, 2, 0, 2], before)
    (score,) = scores.scores
    assert (score.value, score.standard_error) == (0.4, 0.125)
    assert scores.num_fewshot == 5
    change = score.change
    assert change is not None and change.mcnemar is not None
    assert (change.baseline, change.mcnemar.lost, change.mcnemar.gained) == (0.6, 2, 1)
    assert change.answers_changed == 4  # one wrong answer became another wrong one
    assert change.recovery_percent == pytest.approx(200 / 3)
    assert change.delta_interval is not None
    assert change.delta_interval.estimate == pytest.approx(-0.2)


def test_other_items_than_the_baselines_are_an_error() -> None:
    before = scored([0, 0, 1])
    before[1][1]["item_sha256"] = "another"
    with pytest.raises(StageError, match="item 1 of t is not the one"):
        scored([0, 0, 1], before)


def test_overall_every_task_counts_the_same() -> None:
    first, second = scored([0, 0, 1, 1]), scored([0, 0, 0, 1], task="u")
    alone = overall([first[0], second[0]])
    assert alone is not None
    assert (alone.tasks, alone.mean, alone.recovery_percent) == (2, 0.625, None)
    both = overall([scored([0, 1, 1, 1], first)[0], scored([0, 0, 0, 1], second, task="u")[0]])
    assert both is not None
    assert (both.mean, both.baseline_mean) == (0.5, 0.625)
    assert both.recovery_percent == pytest.approx(80.0)


def test_tasks_without_a_share_of_right_answers_have_no_main_score() -> None:
    told = {
        "results": {"t": {"alias": "t", "word_perplexity,none": 9.5, "no_filter": 1.0}},
        "higher_is_better": {"t": {"word_perplexity": False}},
        "n-samples": {}, "n-shot": {}, "versions": {},
    }  # fmt: skip
    scores = scores_of("t", told, True, [], None)
    (score,) = scores.scores
    assert (score.metric, score.value, score.higher_is_better) == ("word_perplexity", 9.5, False)
    assert scores.main is None
    assert overall([scores]) is None
    both = overall([scores, scored([0, 0, 1, 1])[0]])
    assert both is not None and (both.tasks, both.mean) == (1, 0.5)


def test_a_metric_that_the_baseline_lacks_has_no_change() -> None:
    first, samples = scored([0, 1, 1, 1])
    first.scores.clear()
    (score,) = scored([0, 0, 1, 1], (first, samples))[0].scores
    assert (score.value, score.change) == (0.5, None)


@pytest.mark.parametrize(
    ("kind", "given", "answer", "likelihoods"),
    [
        ("loglikelihood", [(-1.5, True)], True, [-1.5]),
        ("loglikelihood_rolling", [-7.25], None, [-7.25]),
        ("generate_until", ["42"], "42", None),
        ("generate_until", ["42", "43"], ["42", "43"], None),
    ],
)
def test_answers_are_kept_as_each_kind_of_task_gives_them(
    kind: str, given: list[Any], answer: Any, likelihoods: list[float] | None
) -> None:
    row = {**logged(3, [-1.0], 0), "filtered_resps": given}
    (sample,) = samples_of("t", kind, [row])
    assert (sample["answer"], sample["log_likelihoods"]) == (answer, likelihoods)
    assert (sample["item"], sample["scores"]) == (3, {"acc": 1.0})


def test_a_model_without_a_chat_template_is_not_asked_in_one(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path)
    asking = Asking(load_request(tmp_path), tmp_path, True, 1, None)
    request = TasksRequest(asking, [], {}, [], {}, None, None)
    context = StageContext(tmp_path, tmp_path, tmp_path, 1, lambda *_: None, lambda load: load())
    said = "the model has no chat template: set tasks.apply_chat_template=false"
    with pytest.raises(StageError, match=said):
        ask_tasks(request, context)


def test_a_batch_ends_when_each_answer_has_ended_its_own_way() -> None:
    """The harness waits for the same stop text in all, that is for the longest length allowed."""
    import torch

    words = {word: place for place, word in enumerate(["<pad>", "one", "two", "end", "stop", "\n"])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<pad>")), pad_token="<pad>"
    )
    stops = StopsEach(tokenizer, ["stop", "end"], 2)

    def done(*rows: str) -> list[bool]:
        ids = torch.tensor([[words[word] for word in row.split()] for row in rows])
        found: list[bool] = stops(ids, None).tolist()
        return found

    assert done("one end one", "stop two two") == [False, False], "prompts do not count"
    assert done("one one stop", "one one end", "one one two") == [True, True, False]


@pytest.mark.parametrize(
    ("lengths_tokens", "groups"),
    [
        ([], []),
        ([7], [[0]]),
        ([500, 120, 480, 125], [[0, 2], [1, 3]]),
        ([40, 60, 99], [[0, 1, 2]]),
        ([100, 200, 300, 400, 500], [[3, 4], [1, 2], [0]]),
        ([0, 64, 65], [[1, 2], [0]]),
    ],
)
def test_batches_hold_prompts_of_similar_lengths(
    lengths_tokens: list[int], groups: list[list[int]]
) -> None:
    """Short ones would be mostly padding beside long ones; of few tokens that costs little."""
    assert similar_lengths(lengths_tokens) == groups


def test_answers_come_in_the_order_of_their_prompts() -> None:
    """However they were grouped: the model here says a prompt's length."""
    asked = []

    class Model:
        def tok_encode(self, text: str) -> list[str]:
            return text.split()

        def generate_until(self, requests: list[Request], disable_tqdm: bool = False) -> list[str]:
            asked.append([request.args[0] for request in requests])
            return [str(len(request.args[0].split())) for request in requests]

    short, long = "a b c", "word " * 200
    requests = [Request((prompt, {})) for prompt in (short, long, "one", long + "more", short)]
    answers = generating(Model)().generate_until(requests, disable_tqdm=True)
    assert answers == ["3", "200", "1", "201", "3"]
    assert asked == [[long, long + "more"], [short, "one", short]]


def test_prompts_that_do_not_fit_are_counted() -> None:
    """With what the harness calls a model: here one whose tokens are words."""
    model = SimpleNamespace(max_length=20, max_gen_toks=9, tok_encode=str.split)

    def cut(kind: str, *arguments: tuple[Any, ...]) -> int:
        return prompts_cut(model, kind, [Request(one) for one in arguments])

    long = "many letters " * 5  # more letters than tokens fit, but few words
    assert cut("generate_until", (long, {"max_gen_toks": 10}), (long, {})) == 0
    assert cut("generate_until", (long, {"max_gen_toks": 11}), (long, {})) == 1
    assert cut("loglikelihood", ("w " * 19, " x"), ("w " * 20, " x"), ("w " * 21, " x")) == 1
    assert cut("loglikelihood_rolling", ("w " * 99, None)) == 0


def test_answers_may_be_as_long_as_those_of_the_levels_asked(tmp_path: Path) -> None:
    items = [{"text": "t", "target": "x" * 30 * level, "level": level} for level in (1, 2, 9)]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    harness = {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 100}}

    def room(times: float | None, *levels: int) -> int:
        task = OwnTask(harness, tmp_path, answer_room=times)
        write_task(tmp_path / "tasks", "suite", task, levels)
        written = yaml.safe_load(
            (tmp_path / "tasks" / "suite.yaml").read_text().partition("process_docs")[0]
        )
        return int(written["generation_kwargs"]["max_gen_toks"])

    assert room(2.0, 1) == 24 + 20
    assert room(2.0, 1, 2) == 24 + 40
    assert room(2.0, 1, 9) == 100, "the harness's own limit holds"
    assert room(None, 1) == 100
    assert room(2.0) == 100, "no levels are chosen"
