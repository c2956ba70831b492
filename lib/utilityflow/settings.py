"""The one typed settings model: defaults < environment file (conf/<name>.yaml) < UTILITYFLOW_* variables < command line.

Unknown keys are refused with the nearest known one. Secrets never stand in settings: a value that needs one holds a
reference ``env:NAME`` or ``file:PATH`` and is resolved at the moment of use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.resources import resource
from utilityflow.strict import Node, build, load

Platform = Literal["local", "synapse", "databricks", "connect"]


@dataclass(frozen=True)
class SparkSettings:
    """How a session is built; on Synapse and Databricks only ``conf`` applies, the platform owns the rest.

    ``small_bytes``: up to so many bytes of landed files and lakehouse data, a local run plans for few rows (session.SMALL);
    0: never.
    """

    master: str = "local[*]"
    driver_memory: str = "2g"
    shuffle_partitions: int = 4
    small_bytes: int = 4 * 1024**2
    remote: str | None = None
    conf: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Thresholds:
    """Bounds that people declare; a crossed one ends a run with exit status 3 or rejects a file, as its comment says.

    ``max_quarantined_share``: share (0 to 1) of a run's rows that may go to quarantine; None: no bound.
    ``snapshot_min_share``: a full snapshot with fewer rows than this share of its older neighbour is rejected.
    ``max_decompressed_bytes``: bound for one compressed file, against decompression bombs.
    """

    max_quarantined_share: float | None = None
    snapshot_min_share: float = 0.5
    max_decompressed_bytes: int = 64 * 1024**3


@dataclass(frozen=True)
class CalendarSettings:
    """What dim_date says of a day beside its calendar.

    ``country`` (ISO 3166, two letters; None: no holidays) and ``subdivision`` name the holidays; ``fiscal_year_start``: month in
    which a fiscal year begins; it has the number of the year in which it ends. ``seasons``: name -> months, of rates.
    """

    country: str | None = "US"
    subdivision: str | None = None
    fiscal_year_start: int = 1
    seasons: dict[str, tuple[int, ...]] = field(
        default_factory=lambda: {"summer": (6, 7, 8, 9), "winter": (1, 2, 3, 4, 5, 10, 11, 12)}
    )


@dataclass(frozen=True)
class ReliabilitySettings:
    """Parameters of the reliability indices (docs/reliability-indices.md); others make the reliability tables anew.

    ``momentary_minutes``: an interruption of so many minutes or fewer is momentary (IEEE 1366: 5). ``cemi_interruptions``: n of
    CEMI-n, n or more. ``celid_hours``: t of CELID-t, t hours or more. ``beta_factor``: of the threshold of major event days
    (IEEE 1366: 2.5), from ``history_years`` before (5) with at least ``least_days`` days of interruptions. ``targets``: of the
    scorecard, metric (of service too) -> what it is held to over twelve months; those of reliability with ``targets_exclude``
    left out (a value of ``exclusions``).
    """

    momentary_minutes: float = 5.0
    cemi_interruptions: int = 3
    celid_hours: float = 7.0
    beta_factor: float = 2.5
    history_years: int = 5
    least_days: int = 30
    targets: dict[str, float] = field(default_factory=dict)
    targets_exclude: str = "major_event_days"


@dataclass(frozen=True)
class Settings:
    """Everything that a command needs to know of where it runs.

    ``home``: the folder that holds all that an environment writes. ``landing``: where source files
    arrive. ``feeds``: folder of feed files, None for the shipped ones. ``time_zone``: the utility's zone, in which every
    day is cut; None takes the home's, or UTC for a new home. ``lease_seconds``: of silence after which another process may
    take a run for dead.
    """

    environment: str = "local"
    platform: Platform = "local"
    home: str = "./var"
    landing: str | None = None
    feeds: str | None = None
    time_zone: str | None = None
    publish_memory: str = "1GB"
    lease_seconds: float = 120.0
    spark: SparkSettings = field(default_factory=SparkSettings)
    thresholds: Thresholds = field(default_factory=Thresholds)
    calendar: CalendarSettings = field(default_factory=CalendarSettings)
    reliability: ReliabilitySettings = field(default_factory=ReliabilitySettings)

    @property
    def home_path(self) -> Path:
        """The home as an absolute local path."""
        return Path(self.home).expanduser().resolve()

    @property
    def landing_path(self) -> Path:
        """The landing root; by default ``landing`` under the home."""
        return Path(self.landing).expanduser().resolve() if self.landing else self.home_path / "landing"


_ENVIRONMENT_KEYS = {
    "UTILITYFLOW_HOME": "home",
    "UTILITYFLOW_LANDING": "landing",
    "UTILITYFLOW_FEEDS": "feeds",
    "UTILITYFLOW_TIME_ZONE": "time_zone",
    "UTILITYFLOW_PLATFORM": "platform",
}
# variables that others own but that share the prefix
_OTHER_VARIABLES = {"UTILITYFLOW_ENV", "UTILITYFLOW_TEST_PLANS", "UTILITYFLOW_REAL_DATA", "UTILITYFLOW_JARS", "UTILITYFLOW_DEBUG",
                    "UTILITYFLOW_CIS_URL", "UTILITYFLOW_DESK_URL"}  # fmt: skip


def load_settings(overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings of the environment named by ``UTILITYFLOW_ENV`` (default ``local``).

    :param overrides: values of the command line; None values are ignored.
    :raises UtilityFlowError: UF-1001 to UF-1003 for what does not fit, with file, line and key.
    """
    env = os.environ if environ is None else environ
    name = env.get("UTILITYFLOW_ENV", "local")
    settings = _from_file(name)
    known = set(_ENVIRONMENT_KEYS) | _OTHER_VARIABLES
    for variable in sorted(env):
        if variable.startswith("UTILITYFLOW_") and variable not in known:
            raise UtilityFlowError("UF-1001", f"unknown environment variable {variable}", hint=nearest(variable, known))
    given: dict[str, Any] = {key: env[variable] for variable, key in _ENVIRONMENT_KEYS.items() if env.get(variable)}
    given |= {key: value for key, value in (overrides or {}).items() if value is not None}
    unknown = set(given) - {f.name for f in fields(Settings)}
    if unknown:
        raise UtilityFlowError("UF-1001", f"unknown setting '{min(unknown)}'")
    if given.get("platform", settings.platform) not in get_args(Platform):
        hint = nearest(str(given["platform"]), get_args(Platform))
        raise UtilityFlowError("UF-1002", f"there is no platform '{given['platform']}'", hint=hint)
    settings = replace(settings, **given)
    if not settings.home.strip():
        raise UtilityFlowError("UF-1002", "'home' is empty")
    for place in ("home", "landing"):
        if "://" in str(getattr(settings, place) or ""):  # as a local path it would be a folder of that name on the driver
            what = f"'{place}' is an address ({getattr(settings, place)}); only folders are supported so far"
            raise UtilityFlowError("UF-1002", what, hint="mount the storage and give the path of the mount")
    if settings.time_zone:
        check_zone(settings.time_zone, "time_zone")
    return settings


def _from_file(name: str) -> Settings:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UtilityFlowError("UF-1004", f"UTILITYFLOW_ENV '{name}' is not the name of an environment")
    folder = resource("conf")
    file = folder.joinpath(f"{name}.yaml")
    if not file.is_file():
        names = [p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml")]
        raise UtilityFlowError("UF-1003", f"no environment '{name}' under conf/", hint=nearest(name, names))
    node = load(file.read_text(encoding="utf-8"), f"conf/{name}.yaml")
    if not isinstance(node.value, dict):
        raise UtilityFlowError("UF-1002", f"{node.where}: an environment file holds keys")
    return build(
        Settings,
        Node({k: v for k, v in node.value.items() if k != "environment"}, node.source, node.line),
        environment=name,
    )


def check_zone(name: str, what: str) -> str:
    """Return the IANA zone name if it exists.

    :raises UtilityFlowError: UF-1002 with ``what`` named.
    """
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UtilityFlowError(
            "UF-1002", f"{what}: '{name}' is no IANA time zone", hint="for example Europe/Paris"
        ) from None
    return name


def resolve_secret(reference: str) -> str:
    """The secret behind ``env:NAME`` or ``file:PATH``; a literal is refused so that none can stand in a file.

    :raises UtilityFlowError: UF-1010 naming the reference, never the value.
    """
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        value = os.environ.get(name)
        if value is None:
            raise UtilityFlowError("UF-1010", f"environment variable {name} is not set")
        return value
    if kind == "file" and name:
        try:
            return Path(name).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UtilityFlowError("UF-1010", f"secret file {name} cannot be read: {error.strerror}") from None
    raise UtilityFlowError("UF-1010", "a secret must be a reference, env:NAME or file:PATH")
