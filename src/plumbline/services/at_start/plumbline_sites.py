"""Notes for each SQL statement, Redis command and new connection the line of the project's own code that led to it.

Plumbline wraps the functions with which asyncpg, psycopg 3 and redis-py send. Their names are in `FUNCTIONS`.
"""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from plumbline_callers import Callers, Replaced, Site  # type: ignore[import-not-found]
from plumbline_psycopg2 import Cursors  # type: ignore[import-not-found]

STATEMENT, PARSE, COMMAND, MESSAGES = "postgres.statement", "postgres.parse", "redis.command", "redis.messages"
CONNECTIONS = {"postgres": "postgres.connections", "redis": "redis.connections"}
# Redis commands whose subcommands are counted by name.
WITH_SUBCOMMANDS = {"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "FUNCTION", "LATENCY", "MEMORY", "MODULE"}
WITH_SUBCOMMANDS |= {"OBJECT", "PUBSUB", "SCRIPT", "SENTINEL", "SLOWLOG", "XGROUP", "XINFO"}

Sent = tuple[str, Any, int]  # the kind, the statement or the arguments of a command, and how often it is sent
Sends = Callable[[Sequence[Any]], Iterable[Sent]]  # gets the arguments of a wrapped function, in their order


def _at(place: int, kind: str = STATEMENT) -> Sends:
    """One argument is the statement, or has it."""
    return lambda args: [(kind, getattr(args[place], "query", args[place]), 1)]


def _of_connection(args: Sequence[Any]) -> list[Sent]:
    """A statement of psycopg that may be composed of parts, which the connection quotes."""
    connection, statement, *_ = args
    return [(STATEMENT, statement.as_string(connection) if hasattr(statement, "as_string") else statement, 1)]


def _many(args: Sequence[Any]) -> list[Sent]:
    return [(STATEMENT, args[1].query, len(args[2]) if hasattr(args[2], "__len__") else 1)]


def _command(args: Sequence[Any]) -> list[Sent]:
    return [(COMMAND, args[1:], 1), (MESSAGES, "", 1)]


def _commands(args: Sequence[Any]) -> list[Sent]:
    commands = args[1] if isinstance(args[1], list) else []  # an iterator can be read only once
    return [*((COMMAND, command, 1) for command in commands), (MESSAGES, "", 1)]


def _connecting(server: str) -> Sends:
    return lambda _: [(CONNECTIONS[server], "", 1)]


_ASYNCPG = {
    "query": _at(1),
    "prepare": _at(2, PARSE),
    "bind_execute": _at(1),
    "bind_execute_many": _many,
    "execute": _at(1),
    "copy_in": _at(1),
    "copy_out": _at(1),
}
_PSYCOPG = {"_execute_send": _at(1), "_send_prepare": _at(2, PARSE), "_send_query_prepared": _at(2)}
_REDIS = {"send_command": _command, "pack_commands": _commands}
# By module and class: its functions, which it may inherit. "": functions of the module itself.
FUNCTIONS: dict[tuple[str, str], Mapping[str, Sends]] = {
    ("asyncpg.protocol", "Protocol"): _ASYNCPG,
    **{("psycopg", f"{one}Cursor"): _PSYCOPG for one in ("", "Client", "Async", "AsyncClient")},
    **{("psycopg", name): {"_exec_command": _of_connection} for name in ("Connection", "AsyncConnection")},
    **{(module, "AbstractConnection"): _REDIS for module in ("redis.connection", "redis.asyncio.connection")},
    ("asyncpg.connect_utils", ""): {"_connect_addr": _connecting("postgres")},
    ("psycopg.generators", ""): {"connect": _connecting("postgres")},
    ("psycopg.connection", ""): {"connect": _connecting("postgres")},  # before psycopg 3.2
    **{
        (module, f"{one}Connection"): {"_connect": _connecting("redis")}
        for module in ("redis.connection", "redis.asyncio.connection")
        for one in ("", "SSL")
    },
}
PIPELINES = ("redis.client", "redis.asyncio.client")


class Sites:
    """A probe: see `plumbline_probes.Probe`. It finds kind, text, file, line, function and number of what is sent."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._callers = Callers(folders)
        self._replaced = Replaced()
        self._noted: list[tuple[str, str, Site, int]] | None = None  # None between the rounds
        self._psycopg2 = Cursors(self._executing)
        self._queued: dict[int, tuple[Any, Site | None]] = {}  # commands of pipelines, by identity

    def begin(self) -> None:
        self._callers.begin()
        self._wrap()

    def enter(self) -> None:
        self._wrap()  # drivers that were imported since
        self._noted = []

    def leave(self) -> list[list[Any]]:
        noted, self._noted = self._noted or [], None
        self._queued.clear()
        found: Counter[tuple[str, str, Site]] = Counter()
        for kind, text, site, number in noted:
            found[kind, text, site] += number
        return [[kind, text, *site, number] for (kind, text, site), number in found.items()]

    def end(self) -> None:
        self._replaced.restore()
        self._psycopg2.end()
        self._callers.end()
        self._noted = None

    def _wrap(self) -> None:
        """Wrap the functions of the drivers that are imported by now."""
        for (module, name), functions in FUNCTIONS.items():
            for function, sends in functions.items():
                self._replaced.replace(_owner(module, name, function), function, self._sending(sends))
        for module in PIPELINES:
            owner = _owner(module, "Pipeline", "pipeline_execute_command")
            self._replaced.replace(owner, "pipeline_execute_command", self._queueing)
        self._psycopg2.begin()

    def _sending(self, sends: Sends) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def send(*args: Any, **options: Any) -> Any:
                if self._noted is not None:
                    with contextlib.suppress(Exception):  # another version of the driver
                        self._note(sys._getframe(1), sends([*args, *options.values()]))
                return original(*args, **options)

            return send

        return make

    def _executing(self, original: Any) -> Any:
        """Note the statement that a cursor of psycopg2 has sent. `original` is its `execute` or `executemany`."""

        def execute(*args: Any, **options: Any) -> Any:
            try:
                return original(*args, **options)
            finally:
                if self._noted is not None:
                    with contextlib.suppress(Exception):
                        number = len(args[2]) if original.__name__ == "executemany" else 1
                        self._note(sys._getframe(1), [(STATEMENT, args[0].query, number)])

        return execute

    def _note(self, frame: Any, sent: Iterable[Sent]) -> None:
        sender = self._callers.site(frame)
        for kind, one, number in sent:
            queued = self._queued.get(id(one))
            site = queued[1] if queued and queued[0] is one else sender
            if site is not None and self._noted is not None:
                self._noted.append((kind, _command_name(one) if kind == COMMAND else _text(one), site, number))

    def _queueing(self, original: Any) -> Any:
        """Note the line that adds a command to a pipeline: `execute` sends them all."""

        def queue(pipeline: Any, *args: Any, **options: Any) -> Any:
            found = original(pipeline, *args, **options)
            if self._noted is not None:
                with contextlib.suppress(Exception):
                    command = pipeline.command_stack[-1][0]
                    self._queued[id(command)] = command, self._callers.site(sys._getframe(1))
            return found

        return queue


def _owner(module: str, name: str, function: str) -> Any:
    """Return the class, or the module, that defines a function. None without this driver, or with another version."""
    if not name:
        found = sys.modules.get(module)
        return found if hasattr(found, function) else None
    owner = getattr(sys.modules.get(module), name, None)
    if module == "asyncpg.protocol":
        return owner if hasattr(owner, function) else None  # it inherits from a class that cannot be changed
    return next((one for one in getattr(owner, "__mro__", ()) if function in vars(one)), None)


def _text(sent: Any) -> str:
    return sent.decode("utf-8", "replace") if isinstance(sent, bytes) else str(sent)


def _command_name(arguments: Sequence[Any]) -> str:
    """Return the name of a command as Redis counts it, such as `GET` or `CLIENT SETINFO`."""
    words = " ".join(_text(word) for word in arguments[:2]).upper().split()
    return " ".join(words[: 1 + (words[0] in WITH_SUBCOMMANDS)])
