"""What composing a run's configuration costs, with and without what a sweep's runs share."""

import itertools
import time

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from runner.config.compose import register
from runner.config.hydra_internals import ConfigLoaderImpl
from runner.config.kept_configs import KeptConfigs
from runner.config.kept_merges import KeptMerges
from runner.util.paths import conf_dir

_METHODS = ("rtn", "gptq", "awq")
_BITS = ("w4a16", "w3a16", "w8a16", "w2a16")
_SEEDS = range(4)


def _milliseconds(*, shared: bool) -> float:
    """Per run, over all combinations of three methods, four bits and four seeds."""
    choices = [*itertools.product(_METHODS, _BITS, _SEEDS)]
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="runner"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        if shared:
            loader: ConfigLoaderImpl = hydra.config_loader
            loader.repository = KeptConfigs(loader.repository)
            KeptMerges(loader)
        start = time.perf_counter()
        for method, bits, seed in choices:
            compose("config", [f"method={method}", f"bits={bits}", f"calibration.seed={seed}"])
        return (time.perf_counter() - start) / len(choices) * 1e3


def measure() -> str:
    """One line."""
    register()
    _milliseconds(shared=True)  # files into the page cache
    alone, shared = _milliseconds(shared=False), _milliseconds(shared=True)
    return (
        f"composing {len(_METHODS) * len(_BITS) * len(_SEEDS)} runs: {alone:.0f} ms a run, "
        f"{shared:.0f} ms where they share what a sweep's do ({alone / shared:.1f} times faster)"
    )
