"""The same sweep on a Ray of two nodes that this test starts."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.config.compose import quoted
from tests.integration.conftest import TINY, Called, records

pytest.importorskip("ray")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


@pytest.fixture
def address() -> Iterator[str]:
    """Of a cluster whose second node has what the first lacks."""
    from ray.cluster_utils import Cluster

    first = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=first)
    cluster.add_node(num_cpus=2, resources={"far": 2})
    yield cluster.address
    cluster.shutdown()


def test_two_nodes_give_what_one_process_gives(
    process: Callable[..., Called], store: Path, prose: Path, address: str
) -> None:
    sweep = ("-m", *TINY, "method=rtn", "bits=w8a16,w4a16", "stages=[quantize,eval]",
             "text@eval.text=local", f"eval.text.path={quoted(prose)}", "eval.context_length=64",
             "eval.windows=2", "tracker=none")  # fmt: skip
    # The launcher belongs to the first node; the runs ask for what only the second has.
    ray = ("hydra/launcher=ray", f"hydra.launcher.address={address}", "hydra.launcher.num_cpus=1",
           "hydra.launcher.resources={far: 1}", "hydra.launcher.poll_seconds=0.5")  # fmt: skip
    spread = process(*sweep, *ray, "sweep=by-ray")
    assert spread.returncode == 0, spread.stderr
    assert "rtn-w4a16-g32" in spread.stdout, "the answer, printed by who started the sweep"
    here = process(*sweep, "sweep=not-by-ray")
    assert here.returncode == 0, here.stderr
    pairs = list(zip(records(store, "by-ray"), records(store, "not-by-ray"), strict=True))
    assert len(pairs) == 2
    for there, here_again in pairs:
        assert (there["status"], there["label"]) == ("ok", here_again["label"])
        stages = [(s["stage"], s["subject"], s["key"]) for s in there["stages"]]
        assert [stage for stage, *_ in stages] == ["quantize", "eval", "eval"]
        assert [(s["stage"], s["subject"], s["key"]) for s in here_again["stages"]] == stages
        assert not there["stages"][-1]["reused"], "made on the node"
        assert all(stage["reused"] for stage in here_again["stages"]), "and found here"
