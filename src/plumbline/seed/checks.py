"""Reads simple CHECK constraints of one column: bounds, lengths and lists of values."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

CAST = re.compile(
    r'::(?:"[^"]+"|[\w.]+)(?: (?:varying|precision|with(?:out)? time zone))*(?:\(\d+(?:,\s*\d+)?\))?(?:\[\])*'
)
ATOM = r"(?:[a-zA-Z_]\w*|\"[^\"]+\"|-?\d+(?:\.\d+)?|'(?:[^']|'')*')"
PARENTHESES = re.compile(rf"(?<!\w)\(({ATOM})\)")
TEXT = re.compile(r"'((?:[^']|'')*)'")
NUMBER = r"'?(-?\d+(?:\.\d+)?)'?"


@dataclass(frozen=True)
class Limits:
    """The values that the constraints of a column allow. Lengths count characters."""

    least: Decimal | None = None
    is_above: bool = False  # whether `least` itself is not allowed
    most: Decimal | None = None
    is_below: bool = False
    choices: tuple[str, ...] = ()
    shortest: int = 0
    longest: int | None = None

    def with_others(self, other: "Limits") -> "Limits":
        """Return the limits of a column together with those of its domain, which give way."""
        least, above = (self.least, self.is_above) if self.least is not None else (other.least, other.is_above)
        most, below = (self.most, self.is_below) if self.most is not None else (other.most, other.is_below)
        longest = self.longest if self.longest is not None else other.longest
        shortest = max(self.shortest, other.shortest)
        return Limits(least, above, most, below, self.choices or other.choices, shortest, longest)


def limits_in(checks: Iterable[str], column: str) -> Limits:
    """Return the limits that these constraints, as PostgreSQL writes them, set to a column."""
    least, most = list[tuple[Decimal, bool]](), list[tuple[Decimal, bool]]()
    choices, shortest = tuple[str, ...](), 0
    longest: int | None = None
    name = rf'(?<![\w."])"?{re.escape(column)}"?(?![\w"])'
    for check in map(_plain, checks):
        if found := re.search(rf"{name} = ANY \(*ARRAY\[(.*?)\]", check):
            choices = tuple(_values(found[1]))
        elif same := re.findall(rf"{name} = ({ATOM})(?=[ )])", check):
            choices = tuple(value for one in same for value in _values(one))
        for sign, number in re.findall(rf"{name} (>=?|<=?) {NUMBER}", check):
            (least if sign[0] == ">" else most).append((Decimal(number), len(sign) == 1))
        for sign, number in re.findall(rf"length\(\(?{name}\)?\) (>=?|<=?|=|<>) (\d+)", check):
            if sign in (">", ">=", "=", "<>"):
                shortest = max(shortest, int(number) + (sign in (">", "<>")))
            if sign in ("<", "<=", "="):
                longest = int(number) - (sign == "<")
        if re.search(rf"{name} <> ''", check):
            shortest = max(shortest, 1)
    low: tuple[Decimal | None, bool] = max(least, default=(None, False))
    high: tuple[Decimal | None, bool] = min(most, default=(None, False))
    return Limits(*low, *high, choices, shortest, longest)


def _plain(check: str) -> str:
    """Return a constraint without casts, and without parentheses around a single word."""
    text, before = CAST.sub("", check), ""
    while text != before:
        before, text = text, PARENTHESES.sub(r"\1", text)
    return text


def _values(text: str) -> list[str]:
    if texts := TEXT.findall(text):
        return [one.replace("''", "'") for one in texts]
    return re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])", text)
