"""Counts taken from the run's servers: Redis commands by name, SQL statements by text, and rows read."""

import asyncio
import contextlib
import json
import secrets
import time
from collections import Counter as Tally
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from plumbline.counting.families import COMMANDS, ROWS, STATEMENTS, CannotCount, Numbers
from plumbline.counting.statements import Executed, between, normalised, of_database, reads_tables, rows_read
from plumbline.measuring.connections import KEPT_CONNECTION_NAME
from plumbline.services.base import Service
from plumbline.services.clients import client_errors, redis_client

if TYPE_CHECKING:  # optional packages
    import asyncpg
    import redis

REDIS_LIMIT_S, POSTGRES_LIMIT_S = 1.0, 3.0
LIMITS_MS = {"statement_timeout": "1000", "lock_timeout": "200"}
RELOAD_S = 0.001

T = TypeVar("T")


class RedisCommands:
    """Counts the commands of a Redis server by INFO commandstats, including rejected ones and those of scripts."""

    def __init__(self, service: Service) -> None:
        self.families = [COMMANDS]
        self._service = service
        self._client: redis.Redis | None = None
        self._before: Tally[str] = Tally()
        self._rounds: list[Numbers] = []

    def begin(self) -> None:
        address = self._service.address
        if self._client is None or self._client.get_connection_kwargs()["port"] != address.port:
            self._client = redis_client(address.url, REDIS_LIMIT_S, client_name=KEPT_CONNECTION_NAME)
            self._calls()  # connects
        self._rounds = []

    def enter(self) -> None:
        self._before = self._calls()

    def leave(self) -> None:
        after = self._calls()
        after.subtract(self._before)
        after["INFO"] -= 1  # that of `enter`
        self._rounds.append({f"redis.command {name}": calls for name, calls in after.items() if calls})

    def end(self) -> list[Numbers]:
        return self._rounds

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _calls(self) -> "Tally[str]":
        assert self._client is not None
        try:
            found: dict[str, dict[str, int]] = self._client.info("commandstats")
        except client_errors("redis") as error:
            raise CannotCount(f"some Redis commands weren't counted: {error}") from None
        names = {name: name.removeprefix("cmdstat_").replace("|", " ").upper() for name in found}
        return Tally({names[name]: one["calls"] + one.get("rejected_calls", 0) for name, one in found.items()})


class PostgresStatements:
    """Counts the statements in the log of a PostgreSQL server, and with EXPLAIN ANALYZE the rows that they read."""

    def __init__(self, service: Service, note: Callable[[str], None]) -> None:
        self.families = [STATEMENTS, ROWS]
        self._service = service
        self._note = note
        self._thread, self._runner = ThreadPoolExecutor(1), asyncio.Runner()
        self._connection: asyncpg.Connection | None = None
        self._marks: list[str] = []
        self._rows: dict[Executed, float] = {}

    def begin(self) -> None:
        self.families = [STATEMENTS, ROWS]
        self._marks = []
        self._rows = {}
        with contextlib.suppress(CannotCount):
            self._execute("SELECT 1")  # after a restart of the server, this detects the lost connection
        self._execute("ALTER SYSTEM SET log_min_duration_statement = 0")
        self._execute("SELECT pg_reload_conf()")
        deadline_s = time.monotonic() + POSTGRES_LIMIT_S
        while self._fetch("SHOW log_min_duration_statement")[0][0] != "0":
            if time.monotonic() > deadline_s:
                raise CannotCount("SQL statements can't be counted: [postgres.config] sets log_min_duration_statement")
            time.sleep(RELOAD_S)
        time.sleep(RELOAD_S)  # the other sessions reload their settings at about the same time

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
        log = self._service.log_since(self._marks[0], self._marks[-1], POSTGRES_LIMIT_S)
        parts = between(of_database(log, self._service.address.database), self._marks)
        if not parts:
            raise CannotCount("some SQL statements weren't counted: PostgreSQL's log doesn't show them")
        return [self._numbers(part) for part in parts[::2]]

    def close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            with contextlib.suppress(CannotCount):
                self._ask(lambda connection: connection.close())
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()

    def _numbers(self, part: list[Executed]) -> Numbers:
        numbers: Numbers = dict(Tally(f"postgres.{one.kind} {normalised(one.text)}" for one in part))
        rows = 0.0
        for label, one in {normalised(one.text): one for one in part if one.kind == "statement"}.items():
            if ROWS in self.families and reads_tables(one.text):
                try:
                    rows += numbers[f"postgres.statement {label}"] * self._read_by(one)
                except CannotCount as error:
                    self.families = [STATEMENTS]
                    self._note(f"the rows read by {label} can't be counted: {error}")
        return {**numbers, ROWS: rows} if rows and ROWS in self.families else numbers

    def _read_by(self, one: Executed) -> float:
        """Execute a statement again, roll it back, and return the number of rows that it read."""
        if one not in self._rows:
            prepare, execute = f"PREPARE counted AS {one.text}", "EXECUTE counted"
            if one.parameters:
                execute += f"({', '.join(one.parameters)})"
            try:
                self._execute("BEGIN")
                self._fetch(prepare)  # a single statement, so no COMMIT can follow
                [[plan]] = self._fetch(f"EXPLAIN (ANALYZE, VERBOSE, COSTS OFF, TIMING OFF, FORMAT JSON) {execute}")
                self._rows[one] = rows_read(json.loads(plan)[0]["Plan"])
            finally:
                self._execute("ROLLBACK; DEALLOCATE ALL; SELECT pg_advisory_unlock_all()")
        return self._rows[one]

    def _execute(self, statements: str) -> None:
        """Execute several statements with PostgreSQL's simple protocol."""
        self._ask(lambda connection: connection.execute(statements))

    def _fetch(self, statement: str) -> list[Any]:
        return self._ask(lambda connection: connection.fetch(statement))

    def _ask(self, ask: "Callable[[asyncpg.Connection], Awaitable[T]]") -> T:
        """Run `ask` in another thread: the test's event loop may be running in this one. Raises CannotCount."""
        import asyncpg

        async def answer() -> T:
            async with asyncio.timeout(POSTGRES_LIMIT_S):
                if self._connection is None or self._connection.is_closed():
                    settings = {"application_name": KEPT_CONNECTION_NAME, **LIMITS_MS}
                    url = self._service.address.url
                    self._connection = await asyncpg.connect(url, statement_cache_size=0, server_settings=settings)
                return await ask(self._connection)

        try:
            return self._thread.submit(self._runner.run, answer()).result()
        except client_errors("postgres") as error:
            raise CannotCount(
                f"some SQL statements weren't counted: {str(error) or f'no answer within {POSTGRES_LIMIT_S:g} s'}"
            ) from None
