"""The one configuration: flags over environment over ``cloudlet.toml`` over defaults."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Config:
    """How this cloud runs. A field is also ``CLOUDLET_<FIELD>`` in the environment and a key in ``cloudlet.toml``."""

    host: str = "127.0.0.1"
    port: int = 4566  # 0 picks a free one
    data_dir: Path = Path(".cloudlet")
    ephemeral: bool = False  # state is kept in memory and gone at the end
    sync: str = "normal"  # "normal" survives kill -9; "full" also a power cut
    auth: str = "local"  # "local" accepts any credentials; "enforce" verifies every signature against IAM's keys
    region: str = "us-east-1"
    location: str = ""  # where DNS clients are, for geolocation records: "EU/DE", "NA/US/CA"; empty is nowhere
    isolation: str = "auto"  # functions: "auto" takes bwrap where there is one, "none" plain processes
    security_groups: str = "auto"  # "auto" enforces them for tasks where this machine allows it, "none" nowhere

    def __post_init__(self) -> None:
        for field, allowed in (
            ("sync", ("normal", "full")),
            ("auth", ("local", "enforce")),
            ("isolation", ("auto", "none")),
            ("security_groups", ("auto", "none")),
        ):
            if getattr(self, field) not in allowed:
                raise ConfigError(f"{field} must be one of {', '.join(allowed)}, not {getattr(self, field)!r}")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port must be between 0 and 65535, not {self.port}")
        if self.host not in ("127.0.0.1", "::1", "localhost") and self.auth != "enforce":
            raise ConfigError(
                f"listening on {self.host} needs --auth enforce: anyone who reaches it could use the cloud"
            )


class ConfigError(ValueError):
    """A setting that cannot be used; its text says which and why."""


def load(flags: dict[str, Any] | None = None, folder: Path | None = None) -> Config:
    """Read every source and return the configuration; ``flags`` that are None were not given. Raises ConfigError."""
    config = Config()
    file = (folder or Path.cwd()) / "cloudlet.toml"
    if file.is_file():
        try:
            config = _apply(config, tomllib.loads(file.read_text()), str(file))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{file}: {error}") from None
    environment = {
        field.name: value for field in fields(Config) if (value := os.environ.get(f"CLOUDLET_{field.name.upper()}"))
    }
    config = _apply(config, environment, "the environment")
    return _apply(config, {key: value for key, value in (flags or {}).items() if value is not None}, "the flags")


def _apply(config: Config, values: dict[str, Any], source: str) -> Config:
    types = {field.name: type(getattr(config, field.name)) for field in fields(Config)}
    changes: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in types:
            raise ConfigError(f"{source} sets {key!r}, which is not a setting")
        try:
            changes[name] = (
                _flag(value) if types[name] is bool else (Path(value) if name == "data_dir" else types[name](value))
            )
        except (TypeError, ValueError):
            raise ConfigError(f"{source} sets {key} to {value!r}, which is not a {types[name].__name__}") from None
    return replace(config, **changes)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("1", "true", "yes", "on"):
        return True
    if str(value).lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(value)
