"""Days and the numbers that facts hold of them: ``date_key``, yyyymmdd, and its month, yyyy-MM."""

from __future__ import annotations

import datetime as dt

from pyspark.sql import Column
from pyspark.sql import functions as F


def day_key(day: Column | str) -> Column:
    """INT yyyymmdd of a DATE; null for null."""
    return F.year(day) * 10000 + F.month(day) * 100 + F.dayofmonth(day)


def day_of(key: str) -> Column:
    """DATE of an INT column yyyymmdd; null for -1, the unknown day."""
    parts = (f"{key} div 10000", f"{key} div 100 % 100", f"{key} % 100")
    return F.when(F.col(key) > 0, F.make_date(*[F.expr(part).cast("int") for part in parts]))


def month_of(key: str) -> Column:
    """TEXT yyyy-MM of an INT column yyyymmdd."""
    return F.expr(f"concat(lpad({key} div 10000, 4, '0'), '-', lpad({key} div 100 % 100, 2, '0'))")


def number(day: dt.date) -> int:
    """The number yyyymmdd of a day."""
    return day.year * 10000 + day.month * 100 + day.day


def date(key: int) -> dt.date:
    """The day that a number yyyymmdd means."""
    return dt.date(key // 10000, key // 100 % 100, key % 100)
