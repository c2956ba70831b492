"""Quartz expressions, what becomes of them elsewhere, and the date that they give."""

from __future__ import annotations

from zoneinfo import ZoneInfo, available_timezones

import pytest

from utilityflow.operate.deploy.schedule import never, other_day_in_utc, parse, recurrence, times_of
from utilityflow.operate.deploy.zones import iana_zones, windows_zone


@pytest.mark.parametrize(
    ("text", "place", "numbers"),
    [
        ("0 30 4 * * ?", 1, [30]),
        ("0 0/20 4-6 * * ?", 1, [0, 20, 40]),
        ("0 0/20 4-6 * * ?", 2, [4, 5, 6]),
        ("0 0 22-2 * * ?", 2, [0, 1, 2, 22, 23]),
        ("0 0 4 ? * MON-FRI", 5, [2, 3, 4, 5, 6]),
        ("0 0 4 ? JAN,jul 1", 4, [1, 7]),
        ("0 */30 4 1,15 * ? 2027", 1, [0, 30]),
    ],
)
def test_fields_are_read(text: str, place: int, numbers: list[int]) -> None:
    assert parse(text).numbers(place) == numbers


@pytest.mark.parametrize(
    "text", ["0 0 4 L * ?", "0 0 4 LW * ?", "0 0 4 L-3 * ?", "0 0 4 15W * ?", "0 0 4 ? * 6L", "0 0 4 ? * MON#2"]
)
def test_special_forms_are_known(text: str) -> None:
    special = [field for field in parse(text).fields if isinstance(field, str) and field != "?"]
    assert len(special) == 1
    assert special[0] in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("30 4 * * *", "has 5 fields"),
        ("0 30 4 * * ? 2027 x", "has 8 fields"),
        ("0 60 4 * * ?", "minute '60' is not within 0 to 59"),
        ("0 30 24 * * ?", "hour '24'"),
        ("0 30 4 32 * ?", "day of the month '32'"),
        ("0 30 4 ? 13 1", "month '13'"),
        ("0 30 4 ? * 8", "day of the week '8'"),
        ("0 30 4 ? * MOND", "'MOND' is no number and none of SUN"),
        ("0 30 4 * * *", "exactly one of the two must be ?"),
        ("0 30 4 ? * ?", "exactly one of the two must be ?"),
        ("0 0/0 4 * * ?", "no step that fits"),
        ("0 x 4 * * ?", "minute 'X' is no number"),
        ("0 30 4 * * ? 1969", "year"),
        ("0 30 4 15X * ?", "day of the month"),
        ("0 -5 4 * * ?", "minute"),
        ("", "has 0 fields"),
    ],
)
def test_what_is_no_quartz_expression_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        parse(text)


def test_a_recurrence_has_the_same_times() -> None:
    daily = recurrence(parse("0 30 4 * * ?"), "Romance Standard Time", "2027-01-01")
    assert daily == {"frequency": "Day", "interval": 1, "startTime": "2027-01-01T00:00:00", "timeZone": "Romance Standard Time",
                     "schedule": {"minutes": [30], "hours": [4]}}  # fmt: skip
    weekly = recurrence(parse("0 0 4 ? * MON-FRI"), "UTC", "2027-01-01")
    assert (weekly["frequency"], weekly["startTime"]) == ("Week", "2027-01-01T00:00:00Z")
    assert weekly["schedule"]["weekDays"] == ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
    assert recurrence(parse("0 0 4 L * ?"), "UTC", "2027-01-01")["schedule"]["monthDays"] == [-1]
    assert recurrence(parse("0 0 4 1,15 * ?"), "UTC", "2027-01-01")["schedule"]["monthDays"] == [1, 15]
    assert times_of(daily) != times_of(daily | {"schedule": {"minutes": [30], "hours": [5]}})
    assert times_of(daily) == times_of(daily | {"startTime": "2028-01-01T00:00:00"})


@pytest.mark.parametrize(
    "text",
    [
        "5 0 4 * * ?",
        "* 0 4 * * ?",
        "0 0 4 * 1 ?",
        "0 0 4 * * ? 2027",
        "0 0 4 15W * ?",
        "0 0 4 ? * MON#2",
        "0 0 4 ? * 6L",
    ],
)
def test_what_a_recurrence_cannot_say_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a recurrence"):
        recurrence(parse(text), "UTC", "2027-01-01")


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("0 30 4 * * ?", "America/New_York", None),
        ("0 30 19 * * ?", "America/New_York", "19:30"),  # 00:30 of the next day in UTC, but only in winter
        ("0 30 18 * * ?", "America/New_York", None),
        ("0 30 0 * * ?", "Europe/Paris", "00:30"),
        ("0 30 1 * * ?", "Europe/Paris", "01:30"),  # in summer only
        ("0 0 2 * * ?", "Europe/Paris", None),
        ("0 30 4 * * ?", "Australia/Sydney", "04:30"),
        ("0 0 * * * ?", "UTC", None),
        ("0 0 * * * ?", "Europe/London", "00:00"),
    ],
)
def test_a_time_at_which_utc_has_another_date_is_found(text: str, zone: str, moment: str | None) -> None:
    assert other_day_in_utc(parse(text), zone) == moment


@pytest.mark.parametrize(
    ("text", "zone", "gap"),
    [
        ("0 30 2 * * ?", "America/New_York", "2020-03-08 02:30"),
        ("0 30 2 * * ?", "Europe/Paris", "2020-03-29 02:30"),
        ("0 0 0 * * ?", "America/Havana", "2020-03-08 00:00"),
        ("0 30 4 * * ?", "America/New_York", None),
        ("0 30 1 * * ?", "America/New_York", None),  # twice in autumn: the second run finds nothing to do
        ("0 30 2 * * ?", "Asia/Kolkata", None),
        ("0 30 * * * ?", "Europe/Paris", None),
    ],
)
def test_a_time_that_a_day_in_spring_has_not_is_found(text: str, zone: str, gap: str | None) -> None:
    assert never(parse(text), zone) == gap


def test_windows_zones() -> None:
    assert windows_zone("America/New_York") == "Eastern Standard Time"
    assert windows_zone("Europe/Paris") == "Romance Standard Time"
    assert windows_zone("Asia/Kolkata") == windows_zone("Asia/Calcutta") == "India Standard Time"
    assert windows_zone("UTC") == windows_zone("Etc/UTC") == "UTC"
    assert windows_zone("Europe/Atlantis") is None
    assert iana_zones("Eastern Time") == []
    known = [zone for zone in available_timezones() if "/" in zone and not zone.startswith("Etc/")]
    missing = {zone for zone in known if windows_zone(zone) is None}
    assert len(missing) < 10, sorted(missing)


def test_the_zones_of_a_windows_name_have_one_clock() -> None:
    import datetime as dt

    moments = [dt.datetime(2027, month, 15, 12, tzinfo=dt.timezone.utc) for month in (1, 7)]
    for name in ("Romance Standard Time", "Eastern Standard Time", "AUS Eastern Standard Time", "India Standard Time"):
        clocks = {tuple(m.astimezone(ZoneInfo(z)).utcoffset() for m in moments) for z in iana_zones(name)}
        assert len(clocks) == 1, name
