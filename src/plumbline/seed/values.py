"""Made-up values of columns: the same ones in each run, whatever other columns and tables there are."""

import datetime
import hashlib
import re
import uuid
from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal

from plumbline.seed.catalog import Column

# Defaults that differ between two runs of the same code.
VARIES = re.compile(r"now\(|current_|localtime|clock_|_timestamp\(|timeofday|random|uuid|'now'", re.IGNORECASE)
BEGIN, LATER = datetime.datetime(2024, 1, 1), datetime.datetime(2124, 1, 1)  # noqa: DTZ001
# Words in names of columns. A row that is deleted or not yet published is often left out of a list.
GONE = re.compile(
    r"(^|_)(delet|remov|archiv|disabl|deactivat|inactiv|revok|cancel|bann|block|hidden|suspend|lock|draft|private)"
)
ENDS = re.compile(r"expir|until|deadline|(^|_)(end|ends|ended|due|valid_to|finish)(_|$)")
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
HEADER = 4  # bytes, which `modifier` counts in addition to the length or the precision
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
BOUNDS = {"int2": 2**15 - 1, "int4": 2**31 - 1, "int8": 2**63 - 1, "oid": 2**31 - 1}
FLOATS = {"float4", "float8", "money"}
TEXTS = {"text", "varchar", "bpchar", "citext", "name", "char"}
DATES = {"date": "%Y-%m-%d", "timestamp": "%Y-%m-%d %H:%M:%S", "timestamptz": "%Y-%m-%d %H:%M:%S+00"}
# In texts: what applications check when they read such a column again.
FORMATS = (
    (r"e?mail", "{name}{number}@example.com"),
    (r"ur[li]|link|href|website|homepage|avatar|image|webhook", "https://example.com/{number}"),
    (r"phone|mobile", "+1555{number:07}"),
    (r"slug", "{name}-{number}"),
    (r"ip|host", "127.0.0.1"),
    (r"locale|lang|language", "en"),
    (r"time_?zone|tz", "UTC"),
    (r"currency", "EUR"),
    (r"country", "DE"),
    (r"colou?r", "#808080"),
)
OTHERS: dict[str, Callable[[int], str]] = {
    "time": lambda number: f"{number % 24:02}:00:00",
    "timetz": lambda number: f"{number % 24:02}:00:00+00",
    "interval": lambda number: f"{number} minutes",
    "json": lambda _: "{}",
    "jsonb": lambda _: "{}",
    "bytea": lambda number: f"\\x{number:08x}",
    "inet": lambda number: f"10.0.{number // 256 % 256}.{number % 256}",
    "cidr": lambda number: f"10.0.{number // 256 % 256}.{number % 256}/32",
    "macaddr": lambda number: f"02:00:00:00:{number // 256 % 256:02x}:{number % 256:02x}",
    "tsvector": lambda number: f"word{number}",
    "hstore": lambda number: f"key=>{number}",
    "ltree": lambda number: f"top.n{number}",
    "xml": lambda number: f"<n>{number}</n>",
    "point": lambda number: f"({number},{number})",
    "int4range": lambda number: f"[{number},{number + 1})",
    "int8range": lambda number: f"[{number},{number + 1})",
    "numrange": lambda number: f"[{number},{number + 1})",
    "daterange": lambda number: f"[{_date(number):%Y-%m-%d},{_date(number + 1):%Y-%m-%d})",
    "tsrange": lambda number: f"[{_date(number):%Y-%m-%d},{_date(number + 1):%Y-%m-%d})",
    "tstzrange": lambda number: f"[{_date(number):%Y-%m-%d %H:%M}+00,{_date(number + 1):%Y-%m-%d %H:%M}+00)",
}


class NoValue(Exception):
    """There is no value for a required column."""


def is_left_out(column: Column) -> bool:
    """Return whether the server sets a column by itself: the same in each run, or from a sequence."""
    if column.is_made or "nextval(" in column.default:
        return True
    return bool(column.default) and not column.is_unique and not VARIES.search(column.default)


def is_gone(name: str) -> bool:
    """Return whether a column marks rows that lists leave out, by its name."""
    return GONE.search(_snake(name)) is not None


def _snake(name: str) -> str:
    return HUMP.sub("_", name).lower().strip("_")


def value(table: str, column: Column, number: int) -> str | None:
    """Return the text of a column's value in the row of this number, from 1. Raises NoValue."""
    if not column.is_required and column.type != "bool" and is_gone(column.name):
        return None
    found = _of_type(table, column, number)
    if found is None and column.is_required:
        raise NoValue(f"there is no made-up value for the type {column.written} of the column {column.name}")
    if found is None or not column.is_array:
        return found
    return '{"' + found.replace("\\", "\\\\").replace('"', '\\"') + '"}'


def _of_type(table: str, column: Column, number: int) -> str | None:
    kind = column.type
    if choices := column.limits.choices or column.labels:
        return choices[(number - 1) % len(choices)]
    if kind == "bool":
        return "false" if is_gone(column.name) else "true"
    if kind in BOUNDS or kind in FLOATS or kind == "numeric":
        return _number(column, number)
    if kind == "uuid":
        return _uuid(table, column, number)
    if kind in TEXTS:
        return _text(table, column, number)
    if kind in DATES:
        return _date(number, LATER if ENDS.search(_snake(column.name)) else BEGIN).strftime(DATES[kind])
    if kind in ("bit", "varbit"):
        return f"{number:b}".rjust(column.modifier, "0")[-column.modifier :] if column.modifier > 0 else f"{number:b}"
    if kind in ("vector", "halfvec") and column.modifier > 0:
        return str([1, *[number] * (column.modifier - 1)])
    return OTHERS[kind](number) if kind in OTHERS else None


def _date(number: int, begin: datetime.datetime = BEGIN) -> datetime.datetime:
    return begin + datetime.timedelta(days=number % 365, minutes=number // 365)


def _uuid(table: str, column: Column, number: int) -> str:
    digest = hashlib.md5(f"{table}.{column.name}.{number}".encode(), usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest, version=4))


def _number(column: Column, number: int) -> str:
    """Return a number within the limits of the column and of its type."""
    limits, step = column.limits, Decimal(1)
    high, scale = Decimal(BOUNDS.get(column.type, 10**6)), 0 if column.type in BOUNDS else 6
    if column.type == "numeric" and column.modifier >= HEADER:
        precision, scale = (column.modifier - HEADER) >> 16, (column.modifier - HEADER) & 0x7FF
        scale -= (scale & 0x400) * 2  # it has a sign
        step, high = Decimal(10) ** -min(scale, 0), Decimal(10) ** (precision - scale)
        high -= Decimal(10) ** -scale
    least = limits.least if limits.least is not None else Decimal(1)
    high = min(high, limits.most) if limits.most is not None else high
    if limits.least is None and high < 1:
        least = high - 1000 if column.type in BOUNDS else Decimal(0) if high > 0 else high - 1000
    is_below = limits.is_below and high == limits.most
    first, last = least + step * limits.is_above, high - step * is_below
    if last >= first and high - least >= 1:
        return _written(first + (number - 1) % (int((last - first) / step) + 1) * step, scale)
    share = Decimal(number % 99 + 1) / 100  # either end may be excluded
    return _written(least + (high - least) * share if scale > 0 else high, scale)


def _written(found: Decimal, scale: int) -> str:
    if scale < 0 or found == found.to_integral_value():
        return f"{found:.0f}"
    return str(found.quantize(Decimal(1).scaleb(-scale), ROUND_DOWN))


def _text(table: str, column: Column, number: int) -> str:
    """Return a text whose length the column allows, in a format that its name suggests."""
    limits, name = column.limits, _snake(column.name)
    longest = column.modifier - HEADER if column.modifier > HEADER else 1 if column.type == "char" else 1 << 20
    longest = min(longest, limits.longest if limits.longest is not None else longest)
    if longest >= 32 and re.search(r"(^|_)(uu|gu)?id$", name):
        found = _uuid(table, column, number)
        return found if longest >= len(found) else found.replace("-", "")
    formats = [text for pattern, text in FORMATS if re.fullmatch(rf"(.*_)?({pattern})(s|_.*)?", name)]
    for one in formats[:1]:
        found = one.format(name=name.replace("_", "-"), number=number)
        if (not column.is_unique or "{number" in one) and limits.shortest <= len(found) <= longest:
            return found
    found = f"{name} {number}"
    if len(found) > longest:
        end = _base_36(number)
        found = (name.replace("_", "")[: max(longest - len(end), 0)] + end)[-longest:]
    return found.ljust(limits.shortest, "x")


def _base_36(number: int) -> str:
    digits = ""
    while number:
        number, last = divmod(number, 36)
        digits = DIGITS[last] + digits
    return digits
