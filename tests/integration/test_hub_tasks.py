"""Leaderboards' tasks of the harness, with their own settings and data of a hub on this machine."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import lm_eval
import pytest
from omegaconf import OmegaConf
from scipy import stats

from runner.evaluation.lm_eval.names import task_names
from runner.util.paths import conf_dir
from tests.unit.test_hub import REPOSITORIES, Hub

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

TASKS = Path(lm_eval.__file__).parent / "tasks"
QUESTION = {"question_id": 0, "category": "math", "src": "made", "cot_content": ""}
CASES = ("murder_mysteries", "object_placements", "team_allocation")
NAMED = "".join(f"- split: {case}\n    path: {case}.jsonl\n  " for case in CASES)
README = f"---\nconfigs:\n- config_name: default\n  data_files:\n  {NAMED}\n---\n"


def lines(rows: list[dict[str, object]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def sums(first: int, count: int) -> bytes:
    """Questions in the format of MMLU-Pro."""
    return lines(
        [
            {**QUESTION, "question": f"What is {n} + 1?", "answer_index": n % 3,
             "options": [str(n + 1 + k - n % 3) for k in range(3)], "answer": "ABC"[n % 3]}
            for n in range(first, first + count)
        ]
    )  # fmt: skip


def stories(case: str) -> bytes:
    """Questions in the format of MuSR."""
    return lines(
        [
            {"narrative": f"{case} {n}.", "question": "Who?", "choices": "['Ann', 'Bob']",
             "answer_index": n % 2, "answer_choice": ["Ann", "Bob"][n % 2]}
            for n in range(6)
        ]
    )  # fmt: skip


SETS = {
    "TIGER-Lab/MMLU-Pro": {
        "data/test.jsonl": sums(100, 40), "data/validation.jsonl": sums(0, 7)
    },
    "TAUR-Lab/MuSR": {
        "README.md": README.encode(),
        **{f"{case}.jsonl": stories(case) for case in CASES},
    },
}  # fmt: skip
SCRIPT = """
import json, random, sys
from pathlib import Path
import torch
from lm_eval.models.huggingface import HFLM
from transformers import LlamaConfig, LlamaForCausalLM
from runner.config.schema.model import ByteTokenizer
from runner.data.models.byte_tokenizers import byte_tokenizer
from runner.errors import StageError
from runner.evaluation.lm_eval.evaluate import evaluate, load_tasks, task_manager
from runner.evaluation.lm_eval.scores import samples_of, scores_of
from runner.util.serialise import to_json
folder = Path(sys.argv[1])
def model(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=512, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                         num_attention_heads=2, max_position_embeddings=2048, initializer_range=1.0)
    tokenizer = byte_tokenizer(ByteTokenizer.byte_level, 512, 2048)
    return HFLM(pretrained=LlamaForCausalLM(config).float(), tokenizer=tokenizer, batch_size=8)
def scores(name, where, of, before):
    loaded = load_tasks(task_manager([folder / where], False), [name], True)[name]
    found = evaluate(of, loaded, num_fewshot=None, limit=None, apply_chat_template=False,
                     seed=None, run_code=False)
    told = {task: list(samples_of(task, "multiple_choice", logged))
            for task, logged in found["samples"].items()}
    told[name] = told.get(name) or [one for every in told.values() for one in every]
    was = None if before is None else before[name]
    return {name: (scores_of(name, found, True, told[name], was), told[name])}
said = {}
for name, where in (("leaderboard_mmlu_pro", "mmlu_pro"), ("leaderboard_musr", "musr")):
    before = scores(name, where, model(0), None)
    said[name] = [to_json(before[name][0]), to_json(scores(name, where, model(3), before)[name][0])]
for name, where in (("leaderboard_ifeval", "ifeval"), ("leaderboard_math_hard", "math"),
                    ("niah_single_1", "../ruler")):
    try:
        load_tasks(task_manager([folder / where], False), [name], True)
    except StageError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


class Sets(Hub):
    """What ``datasets`` asks a hub besides."""

    def do_GET(self) -> None:
        kind = self.path.partition("?")[0]
        if kind == "/":
            self.answer(200)
            return
        if kind.startswith("/api/datasets/") and kind.count("/") == 4:
            self.path = f"{kind}/revision/main"
        super().do_GET()

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Which of some paths there are."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        wanted = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        files = REPOSITORIES["/".join(self.path.split("/")[3:5])]
        found = [
            {"type": "file", "path": file, "size": len(files[file]), "oid": file}
            for file in files
            if file in wanted
        ]
        self.command = "GET"
        self.answer(200, json.dumps(found).encode())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, files in SETS.items():
        monkeypatch.setitem(REPOSITORIES, name, files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sets)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_leaderboard_tasks_keep_their_settings_and_are_compared_item_by_item(
    hub: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(TASKS / "leaderboard")],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0",
             "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    for name, metric, shots, items in (
        ("leaderboard_mmlu_pro", "acc", 5, 40), ("leaderboard_musr", "acc_norm", 0, 18)
    ):  # fmt: skip
        before, after = said[name]
        assert (before["num_fewshot"], before["items"]) == (shots, items)
        (old,) = (score for score in before["scores"] if score["metric"] == metric)
        (new,) = (score for score in after["scores"] if score["metric"] == metric)
        pairs = list(zip(old["outcomes"], new["outcomes"], strict=True))
        lost, gained = pairs.count(("1", "0")), pairs.count(("0", "1"))
        change = new["change"]
        assert lost + gained > 0
        assert (change["mcnemar"]["lost"], change["mcnemar"]["gained"]) == (lost, gained)
        exact = stats.binomtest(lost, lost + gained).pvalue
        assert change["mcnemar"]["p_value"] == pytest.approx(exact)
        recovery = 100 * new["outcomes"].count("1") / old["outcomes"].count("1")
        assert change["recovery_percent"] == pytest.approx(recovery)
    install = f"uv pip install --python {sys.executable}"
    assert (
        f"needs package langdetect, which the harness's environment lacks: {install} "
        in (said["leaderboard_ifeval"])
    )
    assert "'lm-eval[ifeval]==" in said["leaderboard_ifeval"]
    # It would break Hydra, and with it the runner.
    assert "adopts_control=false" in said["leaderboard_math_hard"]
    assert install not in said["leaderboard_math_hard"]
    assert "'lm-eval[ruler]==" in said["niah_single_1"]


@pytest.mark.parametrize("option", ["leaderboard", "long"])
def test_the_harness_has_the_tasks_that_options_name(option: str) -> None:
    config = OmegaConf.load(conf_dir() / "tasks" / f"{option}.yaml")
    assert set(config.names) <= task_names(TASKS)
