"""Where Hydra reads configuration from: the runner's files and the user's."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from runner.config.copies import copies
from runner.config.hydra_internals import FileConfigSource as HydrasSource
from runner.config.hydra_internals import header_of, replace_file_source
from runner.config.renamed import present_section
from runner.errors import UsageError
from runner.util.paths import conf_dir, sweeps_dir
from runner.util.yaml_files import line_of, load, read_text

_WORDS = ("optional", "override")
"""What may stand before an entry of a defaults list."""
_READ: dict[Path, tuple[tuple[str, int, int], Callable[[], ConfigResult]]] = {}
"""Files of the runner's as they were read, with the state that each was in."""


class FileConfigSource(HydrasSource):
    """A folder of configuration whose mistakes are told with the file and the line.

    It has the name of Hydra's own, in whose place it stands.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """The content of one file.

        Raises:
            UsageError: It is none that can be used.
        """
        path = Path(self.path) / self._normalize_file_name(config_path)
        if _is_ours(path):
            return self._ours(path, config_path)
        config = load(path)
        try:
            header = header_of(read_text(path)[:512])
        except ValueError as error:
            raise UsageError(f"{path}: {error}") from None
        _require_package(path, header)
        _require_defaults(path, config)
        self._refuse_cycle(config_path, config)
        config = _present(path, config, header["package"], config_path)
        return ConfigResult(
            config=config,
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header=header,
        )

    def _ours(self, path: Path, config_path: str) -> ConfigResult:
        """A file of the runner's, which one process composes from again and again."""
        try:
            written = path.stat()
        except OSError:
            return super().load_config(config_path)  # says that there is none
        state = (self.provider, written.st_mtime_ns, written.st_size)
        known = _READ.get(path)
        if known is None or known[0] != state:
            known = _READ[path] = (state, copies(super().load_config(config_path)))
        return known[1]()

    def _refuse_cycle(self, config_path: str, config: DictConfig) -> None:
        """See that a defaults list does not lead back to its file: Hydra would follow for ever."""
        start = config_path.removesuffix(".yaml")
        ways = [[start, one] for one in _named(start, config)]
        seen: set[str] = set()
        while ways:
            way = ways.pop()
            if way[-1] == start:
                path = Path(self.path) / self._normalize_file_name(start)
                line = line_of(path, "defaults")
                place = f"{path}, line {line}" if line else str(path)
                raise UsageError(f"{place}: the defaults lead back to this file: {' > '.join(way)}")
            path = Path(self.path) / self._normalize_file_name(way[-1])
            if way[-1] in seen or not path.is_file():
                continue
            seen.add(way[-1])
            ways += [[*way, one] for one in _named(way[-1], load(path))]


class OwnConfigSource(FileConfigSource):
    """A folder of the user's own, whose options win over ours of the same name.

    Primary configurations of ours are not hidden: a ``conf/config.yaml`` that lies in the working
    directory belongs to whatever project that is.
    """

    @staticmethod
    def scheme() -> str:
        """Of its place on the search path."""
        return "own"

    def is_config(self, config_path: str) -> bool:
        """Whether it is one that may be used."""
        ours = "/" not in config_path and any(
            (folder / config_path).with_suffix(".yaml").is_file()
            for folder in (conf_dir(), sweeps_dir())
        )
        return not ours and super().is_config(config_path)


def register_sources() -> None:
    """Have Hydra read files by these classes."""
    Plugins.instance().register(OwnConfigSource)
    # The registry keeps the first class of a name, which is Hydra's.
    replace_file_source(FileConfigSource)


def _present(path: Path, config: DictConfig, package: str | None, config_path: str) -> DictConfig:
    """What a file holds, with every field under the name that it has now."""
    group = config_path.rpartition("/")[0].replace("/", ".")
    section = {None: group, "_group_": group, "_global_": ""}.get(package, package or "")
    content = OmegaConf.to_container(config, resolve=False)

    def place(field: str) -> str:
        line = line_of(path, field.removeprefix(f"{section}."))
        return f"{path}, line {line}" if line else str(path)

    present = present_section(content, section, place)
    if present == content:
        return config
    result = OmegaConf.create(present)
    assert isinstance(result, DictConfig)
    return result


def _is_ours(path: Path) -> bool:
    return path.is_relative_to(conf_dir()) or path.is_relative_to(sweeps_dir())


def _require_package(path: Path, header: dict[str, str | None]) -> None:
    package = header.get("package")
    if package is not None and ("${" in package or any(not one for one in package.split("."))):
        raise UsageError(f"{path}: # @package {package} is not a package such as _global_")


def _require_defaults(path: Path, config: DictConfig) -> None:
    """See that a defaults list is one."""
    content: Any = OmegaConf.to_container(config, resolve=False)
    if "defaults" not in content:
        return
    entries = content["defaults"]
    line = line_of(path, "defaults")
    place = f"{path}, line {line}" if line else str(path)
    if not isinstance(entries, list):
        raise UsageError(f"{place}: defaults must be a list, such as [config, _self_]")
    for entry in entries:
        pair = entry if isinstance(entry, dict) else {"": entry}
        ((key, value),) = pair.items() if len(pair) == 1 else [(None, None)]
        is_option = isinstance(value, str) or (isinstance(entry, dict) and _is_choice(value))
        if not isinstance(key, str) or not is_option:
            raise UsageError(
                f"{place}: {_shown(entry)} in defaults is neither a name nor GROUP: OPTION"
            )
    if entries.count("_self_") > 1:
        raise UsageError(f"{place}: _self_ appears twice in defaults")


def _is_choice(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _shown(entry: Any) -> str:
    return "{" + ", ".join(f"{k}: {v}" for k, v in entry.items()) + "}" if isinstance(
        entry, dict
    ) else str(entry)  # fmt: skip


def _named(config_path: str, config: DictConfig) -> Iterator[str]:
    """Configurations that a file's defaults list names, by the paths of their files."""
    content: Any = OmegaConf.to_container(config, resolve=False)
    entries = content.get("defaults")
    if not isinstance(entries, list):
        return
    group = config_path.rpartition("/")[0]
    for entry in entries:
        pairs = entry.items() if isinstance(entry, dict) else [("", entry)]
        for key, value in pairs:
            word, _, rest = str(key).partition(" ")
            if word == "override":
                continue
            named = (rest.strip() if word in _WORDS else str(key)).partition("@")[0]
            for option in value if isinstance(value, list) else [value]:
                if not isinstance(option, str) or option == "_self_":
                    continue
                full = f"{named}/{option}" if named else option.partition("@")[0]
                absolute = full.startswith("/") or not group
                yield (full if absolute else f"{group}/{full}").lstrip("/").removesuffix(".yaml")
