"""Sees the statements of psycopg2, whose connections and cursors are written in C, so that nothing in them is replaced.

A connection whose cursors are the usual ones gets a subclass of them as its cursor factory, for the time of a pass.
"""

import gc
import sys
from collections.abc import Callable
from typing import Any

from plumbline_callers import Replaced  # type: ignore[import-not-found]

CURSORS = ("DictCursor", "RealDictCursor", "NamedTupleCursor", "LoggingCursor")  # written in Python


class Cursors:
    """The cursors of this process, between `begin` and `end`."""

    def __init__(self, executing: Callable[[Any], Any]) -> None:
        """`executing` returns what replaces `execute` or `executemany`."""
        self._executing = executing
        self._replaced = Replaced()
        self._connections: list[tuple[Any, Any]] = []  # with the cursor factory that each has
        self._usual: Any = None
        self._factory: Any = None

    def begin(self) -> None:
        extensions = sys.modules.get("psycopg2.extensions")
        if extensions is None or self._factory is not None:
            return
        self._usual = extensions.cursor
        functions = {name: self._executing(getattr(self._usual, name)) for name in ("execute", "executemany")}
        self._factory = type("cursor", (self._usual,), functions)
        for one in gc.get_objects():
            if issubclass(type(one), extensions.connection):
                self._prepare(one)
        self._replaced.replace(sys.modules["psycopg2"], "connect", self._connecting)
        for name in CURSORS:
            if owner := getattr(sys.modules.get("psycopg2.extras"), name, None):
                self._replaced.replace(owner, "execute", self._executing)

    def end(self) -> None:
        self._replaced.restore()
        while self._connections:
            connection, before = self._connections.pop()
            connection.cursor_factory = before
        self._factory = None

    def _prepare(self, connection: Any) -> None:
        if connection.cursor_factory in (None, self._usual):
            self._connections.append((connection, connection.cursor_factory))
            connection.cursor_factory = self._factory

    def _connecting(self, original: Any) -> Any:
        def connect(*args: Any, **options: Any) -> Any:
            connection = original(*args, **options)
            self._prepare(connection)
            return connection

        return connect
