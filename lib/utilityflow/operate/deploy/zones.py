"""Windows names of time zones: the triggers of Synapse and Azure Data Factory take no others.

The pairs are those of the Unicode CLDR (supplemental/windowsZones), which Windows and .NET use too, as tzlocal brings them. A
Windows zone stands for several IANA zones that have equal clocks today; for schedules of the future that is enough.
"""

from __future__ import annotations

from tzlocal.windows_tz import tz_win, win_tz


def windows_zone(iana: str) -> str | None:
    """The Windows name of an IANA zone, or None where there is none."""
    return tz_win.get(iana)


def iana_zones(windows: str) -> list[str]:
    """The IANA zones that a Windows name stands for; empty when it is no Windows zone."""
    return sorted(zone for zone, name in tz_win.items() if name == windows) if windows in win_tz else []
