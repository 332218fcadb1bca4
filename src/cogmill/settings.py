"""Settings: the only reader of the environment and of the configuration file.

Everything else receives values. Validated once, at start; a wrong value is refused with the
name of its variable.
"""

from __future__ import annotations

import difflib
import os
import re
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    SecretStr,
    ValidationError,
)

from cogmill.errors import Refused

CONFIG_FILE = "cogmill.toml"
_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:I?B)?\s*", re.IGNORECASE)
MEMORY_SHARE = 0.8
MINIMUM_MEMORY = 256 * 2**20
PARENT_MEMORY = 128 * 2**20
"""What a worker sets aside for its own process (measured: 80 to 95 MiB)."""
CHILD_MEMORY = 136 * 2**20
"""What a child holds while it waits for work, after tasks of every kind (measured: 132 MiB)."""


def parse_size(value: object) -> int:
    """Turn ``"3.5GB"`` into bytes; a unit is a power of 1024.

    Raises
    ------
    ValueError
        It is no size.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value!r} is no size; write it as 512MB or 3.5GB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def megabytes(size: int) -> str:
    """Turn bytes into what `parse_size` reads, rounded up: ``"1128MB"``."""
    return f"{-(-size // 2**20)}MB"


Size = Annotated[int, BeforeValidator(parse_size)]
Secret = Annotated[
    SecretStr, PlainSerializer(lambda secret: secret.get_secret_value(), when_used="json")
]


class Pace(BaseModel):
    """How often a worker beats and looks, in seconds (design: section 3).

    A worker is suspected after `suspect` without a beat and dead one beat later; after `lease`
    without an answer from the database it kills its children itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    beat: float = Field(default=5.0, gt=0)
    suspect: float = Field(default=20.0, gt=0)
    lease: float = Field(default=30.0, gt=0)
    look: float = Field(default=2.5, gt=0)
    grace: float = Field(default=10.0, ge=0)


_FAST = Pace(beat=1.0, suspect=4.0, lease=6.0, look=1.0, grace=2.0)
"""One machine: nobody needs patience for a network."""


def _default_home() -> Path:
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root; its files must lie where `nobody` can reach them.
        return Path("/var/lib/cogmill")
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    if base.startswith("~"):
        raise Refused(
            "this user has no home folder", "set COGMILL_HOME to a folder on a local disk"
        )
    return Path(base) / "cogmill"


def machine_memory() -> int:
    """Return the bytes of memory that there are: the control group's limit, or all of the RAM."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return total


def _default_memory() -> int:
    return int(machine_memory() * MEMORY_SHARE)


class Settings(BaseModel):
    """What is in force; `load` reads it, and children are handed it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(default_factory=_default_home)
    """Where the embedded database and its lease live."""
    database_url: Secret | None = None
    """An external PostgreSQL; without it the embedded one is used."""
    memory: Size = Field(default_factory=_default_memory, ge=MINIMUM_MEMORY)
    """Bytes that one worker may use, parent and children together, the database apart."""
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256)
    """Children of one worker."""
    staging: str | None = None
    """Where intermediates go; beside the destination by default."""
    host: str = Field(default_factory=socket.gethostname)
    """The name that local paths are reachable under; shared file systems may share a name."""
    pace: Pace | None = None
    """Explicit intervals; by default fast with the embedded database, patient otherwise."""
    gdal_cache: Size = Field(default=16 * 2**20, ge=2**20)
    """GDAL's block cache in a child; small, since GDAL never decodes the source."""
    retention_days: float = Field(default=30.0, gt=0)
    """How long events, ended workers and sweeps are kept; jobs and their results stay."""
    failpoints: str = ""
    """For tests of the machine itself: what goes wrong where (`cogmill.failpoints`)."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    log_format: Literal["text", "json"] = "text"

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Read the environment (``COGMILL_*``) over ``cogmill.toml``, and `overrides` over both.

        Raises
        ------
        Refused
            A value is wrong; the message names its variable.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        _refuse_misspelt(cls)
        try:
            return _read(given)
        except ValidationError as error:
            first = error.errors()[0]
            where = "__".join(str(part) for part in first["loc"]).upper()
            what = first["msg"].removeprefix("Value error, ")
            raise Refused(
                f"the setting COGMILL_{where} is wrong: {what}",
                f"correct it in the environment, in {CONFIG_FILE} or on the command line",
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise Refused(
                f"{Path(CONFIG_FILE).absolute()} cannot be read: {error}",
                "correct it as TOML, or move it away",
            ) from None

    def for_child(self) -> dict[str, JsonValue]:
        """Return the values that a child gets on its pipe; the database's address stays here."""
        values: dict[str, JsonValue] = self.model_dump(mode="json", exclude={"database_url"})
        return values

    @property
    def effective_pace(self) -> Pace:
        """The intervals in force."""
        if self.pace is not None:
            return self.pace
        return _FAST if self.database_url is None else Pace()


def _read(given: dict[str, Any]) -> Settings:
    # Here and not at the top: a child reads nothing, and is not to wait for what reads.
    from pydantic_settings import (
        BaseSettings,
        PydanticBaseSettingsSource,
        SettingsConfigDict,
        TomlConfigSettingsSource,
    )

    class Read(Settings, BaseSettings):
        model_config = SettingsConfigDict(
            # A variable set to nothing is not set: an empty home would be the current folder.
            env_prefix="COGMILL_", env_ignore_empty=True, env_nested_delimiter="__",
        )  # fmt: skip

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = TomlConfigSettingsSource(settings_cls, Path(CONFIG_FILE))
            return init_settings, env_settings, file

    read = Read(**given)
    return Settings(**{name: getattr(read, name) for name in read.model_fields_set})


def _refuse_misspelt(settings: type[Settings]) -> None:
    """Refuse a variable that is nearly a setting: unseen, it would leave a default in force.

    Others are left alone: packages of job types may have some of their own.
    """
    known = list(settings.model_fields)
    for variable in os.environ:
        name = variable.removeprefix("COGMILL_").partition("__")[0].lower()
        if not variable.startswith("COGMILL_") or name in known:
            continue
        meant = [each for each in known if each.startswith(f"{name}_")]
        meant += difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if meant:
            raise Refused(
                f"there is no setting {variable}", f"use COGMILL_{meant[0].upper()}, or unset it"
            )


def child_budget(total: int, workers: int) -> int:
    """Return the bytes that one of `workers` children may use, of `total` for all and the parent.

    Parameters
    ----------
    total : int
        Bytes of ``--memory``: parent and children together. May be too small; then the result
        is small or negative and planning refuses.
    workers : int
        Children that run at once.

    Returns
    -------
    int
        Bytes.
    """
    return (total - PARENT_MEMORY) // max(workers, 1)


def idle_reserve(total: int, workers: int) -> int:
    """Return what a worker sets aside for each child that waits: no more than its even share."""
    return max(min(CHILD_MEMORY, child_budget(total, workers)), 0)
