"""The statements in the log of a PostgreSQL server, and the rows and buffers that they read."""

import asyncio
import contextlib
import json
import secrets
import socket
import struct
import time
from collections import Counter as Tally
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from plumbline.counting.families import BUFFERS, READS, ROWS, STATEMENTS, CannotCount, Numbers, family
from plumbline.counting.plans import Read, read_between, read_by
from plumbline.counting.statements import (
    Executed,
    again,
    between,
    functions_in,
    normalised,
    of_database,
    reads_tables,
)
from plumbline.measuring.connections import KEPT_CONNECTION_NAME
from plumbline.services.base import Service
from plumbline.services.clients import client_errors

if TYPE_CHECKING:  # an optional package
    import asyncpg

LIMIT_S = 3.0
MOST_UNREAD = 5  # statements that cannot be executed again: after that, none is
UNCOUNTED = "some SQL statements weren't counted: "
LIMITS_MS = {"statement_timeout": "1000", "lock_timeout": "200"}
RELOAD_S = 0.001
LOGGING = "SELECT current_setting('log_min_duration_statement'), current_setting('autovacuum')"
EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, VERBOSE, COSTS OFF, TIMING OFF, FORMAT JSON)"
# Asks a server for TLS: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
# What this session has lately done to the user's tables: rows read, buffers read with those of indexes, rows written.
USED_TABLES = """
    SELECT coalesce(indrelid, oid) AS name,
           sum(CASE WHEN indrelid IS NULL
               THEN pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid) ELSE 0 END)::float,
           sum(pg_stat_get_xact_blocks_fetched(oid))::float,
           sum(pg_stat_get_xact_tuples_inserted(oid) + pg_stat_get_xact_tuples_updated(oid)
               + pg_stat_get_xact_tuples_deleted(oid))::float
    FROM pg_class LEFT JOIN pg_index ON indexrelid = oid
    WHERE relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    GROUP BY 1 HAVING sum(pg_stat_get_xact_blocks_fetched(oid)) > 0
"""
OWN_FUNCTIONS = """
    SELECT DISTINCT lower(proname) FROM pg_proc
    WHERE pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
"""

T = TypeVar("T")


class PostgresStatements:
    """Counts the statements in the log of a PostgreSQL server, and what they read, by executing them again."""

    def __init__(self, service: Service, note: Callable[[str], None]) -> None:
        self.families = [STATEMENTS, ROWS, BUFFERS]
        self.unread: list[str] = []  # statements whose rows and buffers could not be counted
        self._service = service
        self._note = note
        self._thread, self._runner = ThreadPoolExecutor(1), asyncio.Runner()
        self._connection: asyncpg.Connection | None = None
        self._marks: list[str] = []
        self._read: dict[Executed, Read] = {}
        self._plans: dict[str, set[str]] = {}
        self._functions: set[str] | None = None

    def begin(self) -> None:
        self.families = [STATEMENTS, ROWS, BUFFERS]
        self.unread = []
        self._marks = []
        self._read, self._plans, self._functions = {}, {}, None
        with contextlib.suppress(CannotCount):
            self._execute("SELECT 1")  # after a restart of the server, this detects the lost connection
        self._execute("ALTER SYSTEM SET log_min_duration_statement = 0")
        self._execute("SELECT pg_reload_conf()")
        deadline_s = time.monotonic() + LIMIT_S
        while (found := self._fetch(LOGGING)[0])[0] != "0":
            if time.monotonic() > deadline_s:
                raise CannotCount("SQL statements can't be counted: [postgres.config] sets log_min_duration_statement")
            time.sleep(RELOAD_S)
        self._wait_for_postmaster()
        if found[1] == "on":
            self.families.remove(BUFFERS)
            self._note("the buffers that SQL statements read can't be counted: autovacuum changes them meanwhile")

    def enter(self) -> None:
        """Write a mark to the log."""
        self._marks.append(f"SELECT 'counting {secrets.token_hex(4)}'")
        self._execute(self._marks[-1])

    leave = enter

    def end(self) -> list[Numbers]:
        self._execute("ALTER SYSTEM RESET log_min_duration_statement")
        self._execute("SELECT pg_reload_conf()")
        if not self._marks:
            return []
        log = self._service.log_since(self._marks[0], self._marks[-1], LIMIT_S)
        parts = between(of_database(log, self._service.address.database), self._marks)
        if not parts:
            raise CannotCount(f"{UNCOUNTED}PostgreSQL's log doesn't show them")
        return [self._numbers(part) for part in parts[::2]]

    @property
    def plans(self) -> dict[str, str]:
        """The plan of each statement since `begin`, without those whose plan differs from round to round."""
        return {label: plan for label, plans in self._plans.items() if len(plans) == 1 for plan in plans if plan}

    def close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            with contextlib.suppress(CannotCount):
                self._ask(lambda connection: connection.close())
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()

    def _wait_for_postmaster(self) -> None:
        """Wait until all sessions have been told to reload: the postmaster takes a new connection after that."""
        address = self._service.address
        try:
            with socket.create_connection((address.host, address.port), LIMIT_S) as connection:
                connection.sendall(SSL_REQUEST)
                connection.recv(1)
        except OSError as error:
            raise CannotCount(f"SQL statements can't be counted: {error}") from None

    def _numbers(self, part: list[Executed]) -> Numbers:
        numbers: Numbers = dict(Tally(f"postgres.{one.kind} {normalised(one.text)}" for one in part))
        # Statements of a kind read alike, so one of them is executed again.
        kinds: dict[tuple[str, str], list[Executed]] = {}
        for one in part:
            if one.kind == "statement":
                kinds.setdefault((normalised(one.text), normalised(one.prepared or one.text)), []).append(one)
        for (label, planned), alike in kinds.items():
            try:
                if ROWS in self.families and label not in self.unread and self._reads_tables(alike[-1]):
                    read = self._read_by(alike[-1])
                    for kind, each in zip(READS, (read.rows, read.buffers), strict=True):
                        numbers[f"{kind} {label}"] = numbers.get(f"{kind} {label}", 0.0) + len(alike) * each
                    self._plans.setdefault(planned, set()).add(read.plan)
            except CannotCount as error:
                self.unread.append(label)
                if len(self.unread) == MOST_UNREAD:
                    self.families = [STATEMENTS]
                reason = str(error).removeprefix(UNCOUNTED)
                self._note(f"the rows and buffers read by {label} can't be counted: {reason}")
        return {name: count for name, count in numbers.items() if count and family(name) in self.families}

    def _reads_tables(self, one: Executed) -> bool:
        if reads_tables(one):
            return True
        names = functions_in(one.text)
        if names and self._functions is None:
            self._functions = {name for [name] in self._fetch(OWN_FUNCTIONS)}
        return bool(names & (self._functions or set()))

    def _read_by(self, one: Executed) -> Read:
        """Execute a statement again, roll it back, and return what it read."""
        if one not in self._read:
            prepare, execute = again(one)

            async def execute_again(connection: "asyncpg.Connection") -> Read:
                await connection.execute("BEGIN")
                if prepare:
                    await connection.fetch(prepare)  # a single statement, so no COMMIT can follow
                if prepare and reads_tables(one):
                    return read_by(json.loads(await connection.fetchval(f"{EXPLAIN} {execute}"))[0]["Plan"])
                before = await connection.fetch(USED_TABLES)
                await connection.fetch(execute)
                return read_between(before, await connection.fetch(USED_TABLES))

            try:
                self._read[one] = self._ask(execute_again)
            finally:
                self._execute("ROLLBACK; DEALLOCATE ALL; SELECT pg_advisory_unlock_all()")
        return self._read[one]

    def _execute(self, statements: str) -> None:
        """Execute several statements with PostgreSQL's simple protocol."""
        self._ask(lambda connection: connection.execute(statements))

    def _fetch(self, statement: str) -> list[Any]:
        return self._ask(lambda connection: connection.fetch(statement))

    def _ask(self, ask: "Callable[[asyncpg.Connection], Awaitable[T]]") -> T:
        """Run `ask` in another thread: the test's event loop may be running in this one. Raises CannotCount."""
        import asyncpg

        async def answer() -> T:
            async with asyncio.timeout(LIMIT_S):
                if self._connection is None or self._connection.is_closed():
                    settings = {"application_name": KEPT_CONNECTION_NAME, **LIMITS_MS}
                    url = self._service.address.url
                    self._connection = await asyncpg.connect(url, statement_cache_size=0, server_settings=settings)
                return await ask(self._connection)

        try:
            return self._thread.submit(self._runner.run, answer()).result()
        except client_errors("postgres") as error:
            raise CannotCount(UNCOUNTED + (str(error) or f"no answer within {LIMIT_S:g} s")) from None
