"""The source code of benchmarks at the time of collection."""

import functools
import hashlib
import inspect
import itertools
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct


class Source(Struct, frozen=True):
    """The source code of a benchmark."""

    text: str = ""  # "" if it cannot be read, for example if `exec` made it
    hash: str = ""  # of the test and of the suite's fixtures that it uses
    description: str = ""


def source_of(item: pytest.Function, suite: Path) -> Source:
    fixtures = itertools.chain(*item._fixtureinfo.name2fixturedefs.values())
    functions = [_innermost(function) for function in (item.function, *(fixture.func for fixture in fixtures))]
    code = {_read(function, suite) for function in functions}
    return Source(
        text=textwrap.dedent(_read(functions[0])),
        hash=hashlib.sha256("".join(sorted(code)).encode(errors="replace")).hexdigest()[:12],
        description=(inspect.getdoc(functions[0]) or "").partition("\n")[0],
    )


def _innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """Unwrap decorators and `functools.partial`."""
    inner: Callable[..., Any] = inspect.unwrap(function)
    return _innermost(inner.func) if isinstance(inner, functools.partial) else inner


def _read(function: Callable[..., object], folder: Path | None = None) -> str:
    """Return the code of a function, or "" if it is outside the folder or cannot be read."""
    try:
        if folder is None or Path(inspect.getfile(function)).is_relative_to(folder):
            return inspect.getsource(function)
    except Exception:  # noqa: S110, for example not a function, no file, or a file that is just being saved
        pass
    return ""
