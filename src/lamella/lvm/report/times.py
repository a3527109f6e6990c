# SPDX-License-Identifier: Apache-2.0
"""Times that a person writes in a selection, as the period that they stand for.

``2026``, ``2026-11``, ``2026-11-22``, ``2026-11-22 09:32``, with a zone such as ``+0100`` or
``UTC`` or without; ``now``, ``today``, ``yesterday``, a day of the week, ``2 weeks ago``; ``@`` and
seconds since 1970.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from lamella import clock
from lamella.units import whole_number

_ABSOLUTE = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d{1,2})(?:-(?P<day>\d{1,2}))?)?"
    r"(?:[ T]+(?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::(?P<second>\d{2}))?)?)?"
    r"\s*(?P<zone>UTC|Z|[+-]\d{2}:?\d{2})?"
)
_AGO = re.compile(r"(\d+)\s*(second|minute|hour|day|week|month|year)s?\s+ago")
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_DAYS = tuple(name.lower() for name in calendar.day_name)


def parse_period(text: str, now: datetime | None = None) -> tuple[int, int] | None:
    """(first, last) second since 1970 that *text* means; None if it means nothing."""
    present = (now or clock.utc()).astimezone()
    word = " ".join(text.split()).lower()
    if not word:
        return None
    since = whole_number(word[1:]) if word.startswith("@") else None
    if since is not None:
        return since, since
    if word == "now":
        return int(present.timestamp()), int(present.timestamp())
    if word == "today":
        return _day(present)
    if word == "yesterday":
        return _day(present - timedelta(days=1))
    weekday = word.removeprefix("last ")
    if weekday in _DAYS:
        back = (present.weekday() - _DAYS.index(weekday)) % 7 or 7
        return _day(present - timedelta(days=back))
    ago = _AGO.fullmatch(word)
    if ago:
        count = whole_number(ago[1])
        return None if count is None else _ago(present, count, ago[2])
    return _absolute(" ".join(text.split()))


def _day(moment: datetime) -> tuple[int, int]:
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return int(start.timestamp()), int((start + timedelta(days=1)).timestamp()) - 1


def _ago(present: datetime, count: int, unit: str) -> tuple[int, int] | None:
    try:
        if unit in ("month", "year"):
            months = present.year * 12 + present.month - 1 - count * (12 if unit == "year" else 1)
            year, month = divmod(months, 12)
            day = min(present.day, calendar.monthrange(year, month + 1)[1])
            return _day(present.replace(year=year, month=month + 1, day=day))
        moment = present - timedelta(seconds=count * _UNITS[unit])
    except (OverflowError, ValueError):
        return None
    if unit in ("day", "week"):
        return _day(moment)
    at = int(moment.timestamp())
    return at, at + _UNITS[unit] - 1


def _absolute(text: str) -> tuple[int, int] | None:
    found = _ABSOLUTE.fullmatch(text)
    if not found:
        return None
    part = found.groupdict()
    try:
        start = datetime(
            int(part["year"]),
            int(part["month"] or 1),
            int(part["day"] or 1),
            int(part["hour"] or 0),
            int(part["minute"] or 0),
            int(part["second"] or 0),
        )
        zone = part["zone"]
        if zone:
            start = start.replace(tzinfo=_zone(zone))
        first = int(start.timestamp())
        last = int(_after(start, part).timestamp()) - 1
    except (ValueError, OverflowError):
        return None
    return first, last


def _after(start: datetime, part: dict[str, str | None]) -> datetime:
    """The moment at which the period that starts at *start* is over."""
    if part["second"]:
        return start + timedelta(seconds=1)
    if part["minute"]:
        return start + timedelta(minutes=1)
    if part["hour"]:
        return start + timedelta(hours=1)
    if part["day"]:
        return start + timedelta(days=1)
    if part["month"]:
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start.replace(year=start.year + 1)


def _zone(text: str) -> tzinfo:
    if text in ("UTC", "Z"):
        return UTC
    digits = text[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))
