"""Settings in Dask's configuration, and their sources.

Precedence: command line, environment variables (``DASK_REBEN__…``), files, defaults in the package's ``reben.yaml``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import dask.config
import yaml

from reben_dask.errors import InputError

NAMESPACE = "reben"
DEFAULTS_FILE = Path(__file__).with_name("reben.yaml")
DEFAULT = "default"
"""Source of an unchanged setting."""

PARAMETERS = {"export": "exports"}
"""Parameter names of settings whose option is named differently."""


class Setting(NamedTuple):
    """Setting in effect: its key below ``reben``, its value, and its source.

    The source is an environment variable, a file, or :data:`DEFAULT`.
    """

    key: str
    value: Any
    source: str


def place_for_user() -> Path:
    """Put a commented copy of the defaults into Dask's configuration folder, unless it exists; return its path."""
    dask.config.ensure_file(source=str(DEFAULTS_FILE))
    return Path(dask.config.PATH, DEFAULTS_FILE.name)


def settings() -> list[Setting]:
    """List all settings in the order of ``reben.yaml``.

    Raises InputError for unknown names, or if ``reben`` is not a section.
    """
    found = {key: Setting(key, value, DEFAULT) for key, value in _defaults().items()}
    for source, section in _sections():
        for name, value in section.items():
            key = str(name).replace("_", "-")
            if key not in found:
                raise InputError(_unknown(key, source, found))
            found[key] = Setting(key, value, _variable(key) if source == _ENVIRONMENT else source)
    return list(found.values())


def option_defaults() -> dict[str, Any]:
    """Map parameters of ``reben run`` to their settings as defaults; null ones are left out."""
    held = (setting for setting in settings() if setting.value not in (None, []))
    return {PARAMETERS.get(key, key.replace("-", "_")): value for key, value, _ in held}


_ENVIRONMENT = "environment"


def _defaults() -> dict[str, Any]:
    section: dict[str, Any] = yaml.safe_load(DEFAULTS_FILE.read_text(encoding="utf-8"))[NAMESPACE]
    return section


def _sections() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield settings of files and the environment, by ascending precedence."""
    sources = [(str(path), content) for path, content in dask.config.collect_yaml(dask.config.paths, return_paths=True)]
    for source, content in [*sources, (_ENVIRONMENT, dask.config.collect_env())]:
        section = (content or {}).get(NAMESPACE)
        if section is None:
            continue
        if not isinstance(section, Mapping):
            raise InputError(f"{source}: {NAMESPACE} is {section!r}, and not a section of settings.")
        yield source, section


def _variable(key: str) -> str:
    """Environment variable of a setting, as the user spelled it."""
    return next((name for name in os.environ if name.upper() == _variable_name(key)), _variable_name(key))


def _variable_name(key: str) -> str:
    return f"DASK_{NAMESPACE}__{key.replace('-', '_')}".upper()


def _unknown(key: str, source: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {NAMESPACE}.{near[0]}?" if near else f"settings are {', '.join(known)}."
    where = _variable_name(key) if source == _ENVIRONMENT else f"{source}: {NAMESPACE}.{key}"
    return f"{where} is not a setting; {hint}"
