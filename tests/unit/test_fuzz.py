"""Every field of every group is given what it does not take: a message, a skip or a run comes.

``QUANT_RUNNER_FUZZ=20000 make unit TESTS=tests/unit/test_fuzz.py`` searches for longer.
"""

import copy
import functools
import itertools
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from omegaconf import DictConfig, flag_override

from runner.config.compose import register, typed
from runner.config.errors import COMPOSITION_ERRORS, explain
from runner.config.schema.root import StageName
from runner.engines import engine_names
from runner.errors import UsageError
from runner.methods import method_names
from runner.multirun.dry_run.session import PeekSession
from runner.multirun.dry_run.show import DryRun
from runner.pipeline.facts import gather_facts
from runner.pipeline.record import RunIdentity
from runner.pipeline.stages.plan import make_result
from runner.planning.hardware.detect import detect
from runner.util.paths import conf_dir
from runner.validation.unused import refuse_unused
from tests.fuzzing import Leaf, anything, leaves, overrides
from tests.unit.conftest import kept_loader

pytestmark = pytest.mark.unit

_STAGES = "stages=[quantize,eval,tasks,bench,serving,sensitivity,plan]"
_COMMON = ["model=tiny", "group_size=g32", "eval=quick", "bench=quick", "tasks=packaged",
           "calibration=mixed", "claims=[{id:a,sentence:b,left:c,right:d}]"]  # fmt: skip
CONTEXTS = {
    "all": [*_COMMON, _STAGES, "method=gptq"],
    "local": [*_COMMON, _STAGES, "model=local", "model.path=.", "method=awq", "calibration=local",
              "calibration.text.path=a.txt", "text@eval.text=local", "eval.text.path=b.txt"],
    "auto": [*_COMMON, _STAGES, "method=rtn", "bits=auto", "tracker=wandb", "hardware=h100_sxm"],
    **{name: [*_COMMON, "stages=[quantize]", f"method={name}"] for name in method_names()},
    **{name: [*_COMMON, "method=none", "stages=[eval,bench,serving]", f"engine={name}"]
       for name in engine_names()},
}  # fmt: skip
_LONG = int(os.environ.get("QUANT_RUNNER_FUZZ", "0"))


@functools.cache
def _loader() -> ConfigLoaderImpl:
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="runner"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        return hydra.config_loader


@functools.cache
def _composed(context: str) -> DictConfig:
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="runner"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.config_loader = kept_loader(Path.cwd())
        config = compose("config", overrides=CONTEXTS[context])
    with flag_override(config, "struct", False):
        # Most of the time of a conversion would go into these.
        for name in [*config.environment]:
            if name not in ("default", "llama_cpp", "vllm_cpu"):
                del config.environment[name]
    return config


@functools.cache
def _leaves() -> dict[str, list[tuple[str, Leaf]]]:
    """Each field once, by section, and a context that has it."""
    found: dict[tuple[str, type], tuple[str, Leaf]] = {}
    for context in CONTEXTS:
        for leaf in leaves(typed(_composed(context))):
            found.setdefault((leaf.key, leaf.owner), (context, leaf))
    return {
        section: [*pairs]
        for section, pairs in itertools.groupby(
            sorted(found.values(), key=lambda pair: pair[1].key), lambda pair: pair[1].section
        )
    }


class Outcome:
    """What comes of one override that is composed, judged and looked at as a command line is."""

    def __init__(self, root: Path) -> None:
        self.dry_run = DryRun()
        self.session = PeekSession(root / "store", root / "environments")

    def of(self, context: str, override: str) -> str:
        """One message, or what a dry run tells."""
        config = _composed(context)
        # A copy of the whole would take most of the time.
        sections: Any = config._content
        section = override.partition("=")[0].partition(".")[0]
        kept, sections[section] = sections[section], copy.deepcopy(sections[section])
        try:
            return self._of(config, override)
        except UsageError as error:
            said = str(error)
        except COMPOSITION_ERRORS as error:
            said = explain(error, [override])
        finally:
            sections[section] = kept
        assert said.strip()
        assert len(said) < 3000, f"{override[:80]}: {said[:300]}"
        return said

    def _of(self, composed: DictConfig, override: str) -> str:
        parsed = OverridesParser.create().parse_overrides([override])
        _loader()._apply_overrides_to_config(parsed, composed)
        config = typed(composed)
        _ = config.launch.max_failures
        refuse_unused(config, [override])
        said = self.dry_run.describe(config, RunIdentity("fuzz", 0, [override]))
        assert not re.search(r"\w+Error:", said), f"{override[:80]}: {said}"
        if config.stages == [StageName.plan]:
            facts = gather_facts(config, detect(), [override])
            make_result(config, facts.architecture, self.session)
        return said


@pytest.fixture
def outcome(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    set_hypothesis_home_dir(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("A short text. " * 100)
    (tmp_path / "b.txt").write_text("Another text. " * 100)
    return Outcome(store)


@pytest.mark.parametrize("section", sorted(_leaves()))
def test_every_field_says_what_it_does_not_take(section: str, outcome: Outcome) -> None:
    for context, leaf in _leaves()[section]:
        for _, choices in overrides(leaf):
            for override in choices if _LONG else choices[:1]:
                outcome.of(context, override)


def test_nothing_else_comes_of_anything(outcome: Outcome) -> None:
    every = [pair for pairs in _leaves().values() for pair in pairs]

    @settings(
        max_examples=_LONG or 100, derandomize=not _LONG, database=None, deadline=None,
        suppress_health_check=[*HealthCheck],
    )  # fmt: skip
    @given(
        st.sampled_from(every).flatmap(lambda pair: st.tuples(st.just(pair[0]), anything(pair[1])))
    )
    def look(pair: tuple[str, str]) -> Any:
        outcome.of(*pair)

    look()
