"""Counts taken from the run's servers: Redis commands and what they do, SQL statements and what they read."""

import asyncio
import contextlib
import json
import secrets
import socket
import struct
import time
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from plumbline.counting.families import (
    BUFFERS,
    CHANGES,
    COMMANDS,
    CPU,
    KEYS,
    KEYS_READ,
    ROWS,
    STATEMENTS,
    STORED,
    CannotCount,
    Numbers,
)
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
from plumbline.services.clients import client_errors, redis_client

if TYPE_CHECKING:  # optional packages
    import asyncpg
    import redis

REDIS_LIMIT_S, POSTGRES_LIMIT_S = 1.0, 3.0
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

# Sections of INFO, so that the time between is that of the round and the commands of the others are left out.
AT_ENTER = ["stats", "persistence", "commandstats", "cpu"]
AT_LEAVE = AT_ENTER[::-1]
INFO_FIGURES = {
    "keyspace_hits": (KEYS_READ, 1.0),
    "keyspace_misses": (KEYS_READ, 1.0),
    "rdb_changes_since_last_save": (CHANGES, 1.0),
    "used_cpu_user": (CPU, 1e6),
    "used_cpu_sys": (CPU, 1e6),
}
OWN_CPU_TRIES = 5
# Commands that wait for keys, until a time limit.
WAITING = {
    f"redis.command {name}"
    for name in (
        *("XREADGROUP", "XREAD", "BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE"),
        *("BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP"),
    )
}
MOST_IDLE_S = 5.0
MOST_KEYS = 10_000
# With MEMORY USAGE of each key, and each of its elements. -1 if there are too many keys.
BYTES_OF_KEYS = """
    if redis.call('DBSIZE') > tonumber(ARGV[1]) then return -1 end
    local cursor, bytes, seen = '0', 0, {}
    repeat
        local found = redis.call('SCAN', cursor, 'COUNT', 1000)
        cursor = found[1]
        for _, key in ipairs(found[2]) do
            if not seen[key] then bytes = bytes + (redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) or 0) end
            seen[key] = true
        end
    until cursor == '0'
    return bytes
"""

T = TypeVar("T")


class RedisCommands:
    """Counts the commands of a Redis server by INFO, including rejected ones and those of scripts, and what they do.

    Keys read are those that a command has looked up, whether they exist or not. Changes are as Redis counts them: of
    keys, fields and elements. Bytes stored are by how much all keys have grown. The processor time is not exact.
    """

    def __init__(self, service: Service, note: Callable[[str], None]) -> None:
        self.families = [COMMANDS, KEYS, STORED]
        self._service = service
        self._note = note
        self._client: redis.Redis | None = None
        self._before: Numbers = {}
        self._stored = -1.0, 0.0  # the number of changes when all keys were measured last, and their bytes
        self._own_cpu_us = 0.0  # of `enter` and `leave` themselves
        self._rounds: list[Numbers] = []
        self._entered_s, self._longest_s = 0.0, 0.0

    def begin(self) -> None:
        self.families = [COMMANDS, KEYS, STORED]
        self._longest_s = 0.0
        address = self._service.address
        if self._client is None or self._client.get_connection_kwargs()["port"] != address.port:
            self._client = redis_client(address.url, REDIS_LIMIT_S, client_name=KEPT_CONNECTION_NAME)
            self._client.set_response_callback("INFO", bytes)
            self._stored = -1.0, 0.0
            empty = []
            for _ in range(OWN_CPU_TRIES):
                before = self._figures(AT_ENTER)
                empty.append(self._figures(AT_LEAVE)[CPU] - before[CPU])
            self._own_cpu_us = min(empty)
        self._rounds = []

    def enter(self) -> None:
        self._before = self._figures(AT_ENTER)
        if self._measure_stored(self._before[CHANGES]):
            self._before = self._figures(AT_ENTER)
        self._entered_s = time.monotonic()

    def leave(self) -> None:
        self._longest_s = max(self._longest_s, time.monotonic() - self._entered_s)
        after, stored = self._figures(AT_LEAVE), self._stored[1]
        self._measure_stored(after[CHANGES])
        numbers = {name: total - self._before.get(name, 0) for name, total in after.items()}
        numbers["redis.command INFO"] -= 3  # since the first was answered that counts commands
        numbers[CPU] -= self._own_cpu_us
        if STORED in self.families:
            numbers[STORED] = self._stored[1] - stored
        self._rounds.append({name: number for name, number in numbers.items() if number > 0})

    def end(self) -> list[Numbers]:
        left_out = {STORED} - {*self.families}
        return [{name: n for name, n in one.items() if name not in left_out} for one in self._rounds]

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def idle_s(self) -> float:
        """Return how long to count without the test: not at all unless each round had a command that waits for keys.

        A worker repeats such a command, more often in longer rounds. In twice the time of a round it does so again.
        """
        repeated = all(any(name in WAITING for name in one) for one in self._rounds)
        return min(2 * self._longest_s, MOST_IDLE_S) if repeated and self._rounds else 0.0

    def _figures(self, sections: Sequence[str]) -> Numbers:
        """Return the totals of these sections of INFO."""
        numbers: Numbers = {}
        for answer in self._ask(sections):
            for line in answer.decode().splitlines():
                name, _, value = line.partition(":")
                if name.startswith("cmdstat_"):
                    calls = dict(one.split("=") for one in value.split(","))
                    command = name.removeprefix("cmdstat_").replace("|", " ").upper()
                    numbers[f"redis.command {command}"] = int(calls["calls"]) + int(calls.get("rejected_calls", 0))
                elif name in INFO_FIGURES:
                    total, factor = INFO_FIGURES[name]
                    numbers[total] = numbers.get(total, 0.0) + float(value) * factor
        return numbers

    def _ask(self, sections: Sequence[str]) -> list[bytes]:
        assert self._client is not None
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for section in sections:
                    pipeline.info(section)
                return pipeline.execute()
        except client_errors("redis") as error:
            raise CannotCount(f"some Redis commands weren't counted: {error}") from None

    def _measure_stored(self, changes: float) -> bool:
        """Measure all keys if anything has changed since they were measured last. Return whether Redis was asked."""
        if self._stored[0] == changes or STORED not in self.families:
            return False
        assert self._client is not None
        try:
            stored = self._client.eval(BYTES_OF_KEYS, 0, MOST_KEYS)
        except client_errors("redis") as error:
            self._leave_out_stored(str(error))
        else:
            if stored < 0:
                self._leave_out_stored(f"there are more than {MOST_KEYS:,} keys")
            self._stored = (changes, float(stored)) if stored >= 0 else (-1.0, 0.0)
        return True

    def _leave_out_stored(self, why: str) -> None:
        self.families.remove(STORED)
        self._note(f"the bytes that Redis stores can't be counted: {why}")


class PostgresStatements:
    """Counts the statements in the log of a PostgreSQL server, and what they read, by executing them again."""

    def __init__(self, service: Service, note: Callable[[str], None]) -> None:
        self.families = [STATEMENTS, ROWS, BUFFERS]
        self._service = service
        self._note = note
        self._thread, self._runner = ThreadPoolExecutor(1), asyncio.Runner()
        self._connection: asyncpg.Connection | None = None
        self._marks: list[str] = []
        self._read: dict[Executed, Read] = {}
        self._plans: dict[str, set[str]] = {}
        self._functions: set[str] | None = None
        #: Of the last round, by count and statement: the rows and buffers that it read.
        self.shares: dict[str, dict[str, float]] = {}

    def begin(self) -> None:
        self.families = [STATEMENTS, ROWS, BUFFERS]
        self._marks = []
        self._read, self._plans, self._functions = {}, {}, None
        with contextlib.suppress(CannotCount):
            self._execute("SELECT 1")  # after a restart of the server, this detects the lost connection
        self._execute("ALTER SYSTEM SET log_min_duration_statement = 0")
        self._execute("SELECT pg_reload_conf()")
        deadline_s = time.monotonic() + POSTGRES_LIMIT_S
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
        log = self._service.log_since(self._marks[0], self._marks[-1], POSTGRES_LIMIT_S)
        parts = between(of_database(log, self._service.address.database), self._marks)
        if not parts:
            raise CannotCount("some SQL statements weren't counted: PostgreSQL's log doesn't show them")
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
            with socket.create_connection((address.host, address.port), POSTGRES_LIMIT_S) as connection:
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
                kinds.setdefault((normalised(one.text), normalised(one.prepared)), []).append(one)
        rows, buffers = 0.0, 0.0
        self.shares = {ROWS: {}, BUFFERS: {}}
        for (label, prepared), alike in kinds.items():
            try:
                if ROWS in self.families and self._reads_tables(alike[-1]):
                    read = self._read_by(alike[-1])
                    rows, buffers = rows + len(alike) * read.rows, buffers + len(alike) * read.buffers
                    self.shares[ROWS][label] = len(alike) * read.rows
                    self.shares[BUFFERS][label] = len(alike) * read.buffers
                    self._plans.setdefault(prepared or label, set()).add(read.plan)
            except CannotCount as error:
                self.families = [STATEMENTS]
                self._note(f"the rows and buffers read by {label} can't be counted: {error}")
        counted = {name: count for name, count in ((ROWS, rows), (BUFFERS, buffers)) if name in self.families}
        return {**numbers, **{name: count for name, count in counted.items() if count}}

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
