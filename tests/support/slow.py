"""The marker `slow` for some of the cases of a test."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def cases(names: Iterable[str], *, slow: Collection[str]) -> list[Any]:
    """Return all names as arguments of `parametrize`, the slow ones with the marker."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in names]
