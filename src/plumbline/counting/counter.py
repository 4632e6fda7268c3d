"""The counting pass: after the timed rounds a few more of the same body, in which messages and statements are counted.

Each count is taken from entering `with timer` to leaving it. What each source of counts needs for that (a look at the
kernel's table of sockets, an INFO, a mark in PostgreSQL's log) stands outside that window.
"""

import asyncio
import json
import secrets
import threading
import time
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from plumbline.counting.families import COMMANDS, ROWS, SOCKETS, STATEMENTS, same_count
from plumbline.counting.sockets import CannotCount, Connection, Peer, SocketWatch, lost, peers_of, traffic
from plumbline.counting.statements import Executed, between, normalised, reads_tables, rows_read
from plumbline.measuring.guards import KEPT_CONNECTION_NAME
from plumbline.results.counts import Counts
from plumbline.services import Service, Services

if TYPE_CHECKING:  # of the clients, only those that are wanted are there
    import asyncpg
    import redis

PASSES = 3
ANSWER_LIMIT_S = 3.0
REDIS_LIMIT_S = 1.0
EXPLAIN_LIMIT_MS = 1000
LOCK_LIMIT_MS = 200
RELOAD_S = 0.001
COUNTED_SERVICES = ("redis", "postgres", "app")

T = TypeVar("T")
Numbers = dict[str, float]


class Source(Protocol):
    """Something that counts. Each method may raise CannotCount, and then it isn't asked again in this pass."""

    families: list[str]

    def begin(self) -> None:
        """Get ready for some rounds."""

    def enter(self) -> None:
        """The window of one round opens."""

    def leave(self) -> None:
        """It closes."""

    def end(self) -> list[Numbers]:
        """What was counted since `begin`, by round."""


class Round:
    """What takes the timer's place in a counting round."""

    def __init__(self, sources: Sequence["_Guarded"], left: Callable[[], None]) -> None:
        self._sources = sources
        self._left = left

    def __enter__(self) -> None:
        for source in self._sources:
            source.enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for source in reversed(self._sources):
            source.leave()
        self._left()


class Counter:
    """Counts for all benchmarks of a run; `close` it at the end."""

    def __init__(self, services: Services) -> None:
        self.notes: list[str] = []
        """What can't be counted here and why, once each."""
        self._services = services
        self._watch: SocketWatch | None = None
        try:
            self._watch = SocketWatch()
        except CannotCount as error:
            self._note(f"messages, bytes and connections can't be counted here: {error}")
        redis_, postgres = services.redis, services.postgres
        for what, service in ("Redis commands", redis_), ("SQL statements and rows read", postgres):
            if service and not service.own:
                self._note(f"{what} can't be counted: the server is not one that this run has started")
        self._redis = RedisCommands(redis_) if redis_ and redis_.own else None
        self._postgres = PostgresStatements(postgres, self._note) if postgres and postgres.own else None

    def rounds(self, operations: int, left: Callable[[], None]) -> Generator[Round, None, Counts]:
        """Yield a context manager for each round of the pass; the generator returns what was counted.

        `operations`: in one round. `left` is called whenever a round was left. If PostgreSQL has a part, the first
        round is thrown away: only then does PostgreSQL begin to log.
        """
        sockets = SocketSource(self._watch, self._addresses()) if self._watch else None
        postgres = self._guarded(self._postgres) if self._postgres else None
        # The sockets last: what the others ask stands outside their window.
        sources = [self._guarded(source) for source in (self._redis, sockets) if source is not None]
        for source in sources:
            source.begin()
        families: list[str] = []
        try:
            yield Round(sources, left)
            passed = 1
            if postgres is not None and (sockets is None or sockets.touched("postgres")):
                sources.insert(0, postgres)
                for source in sources:
                    source.begin()
                passed = 0
            elif postgres is not None:
                families += postgres.families  # none of them
            for _ in range(passed, PASSES):
                yield Round(sources, left)
        finally:
            ended = [source.end() for source in sources]
        families += [family for source in sources for family in source.families]
        return _sorted(ended, operations, families)

    def close(self) -> None:
        """Give connections and sockets back."""
        for server in (self._redis, self._postgres):
            if server is not None:
                server.close()
        if self._watch is not None:
            self._watch.close()

    def _note(self, text: str) -> None:
        text = self._services.scrub(text)
        if text not in self.notes:
            self.notes.append(text)

    def _addresses(self) -> dict[Peer, str]:
        return {
            peer: service.name
            for service in self._services.running()
            if service.name in COUNTED_SERVICES
            for peer in peers_of(service.address.host, service.address.port)
        }

    def _guarded(self, source: Source) -> "_Guarded":
        return _Guarded(source, self._note)


class _Guarded:
    """A source that is given up for the rest of a pass once it can't count, and what can't be counted is noted."""

    def __init__(self, source: Source, note: Callable[[str], None]) -> None:
        self._source = source
        self._note = note
        self._well = True

    @property
    def families(self) -> list[str]:
        return self._source.families if self._well else []

    def begin(self) -> None:
        self._try(self._source.begin)

    def enter(self) -> None:
        self._try(self._source.enter)

    def leave(self) -> None:
        self._try(self._source.leave)

    def end(self) -> list[Numbers]:
        numbers = self._try(self._source.end)
        return numbers if numbers and self._well else []

    def _try(self, work: Callable[[], T]) -> T | None:
        # `end` is called in any case: there may be something to put back.
        if self._well or work == self._source.end:
            try:
                return work()
            except CannotCount as error:
                self._well = False
                self._note(str(error))
        return None


class SocketSource:
    """Messages, bytes and connections, by service."""

    def __init__(self, watch: SocketWatch, names: Mapping[Peer, str]) -> None:
        self.families = [SOCKETS]
        self._watch = watch
        self._names = names
        self._before: dict[bytes, Connection] = {}
        self._rounds: list[Numbers] = []

    def begin(self) -> None:
        self._rounds = []
        self._watch.listen()

    def enter(self) -> None:
        self._before = self._asked(self._watch.open)
        self._asked(self._watch.destroyed)  # before the window

    def leave(self) -> None:
        after = self._asked(self._watch.open)
        numbers: Numbers = {}
        for name, found in traffic(self._before, after, self._asked(self._watch.destroyed), self._names).items():
            numbers[f"{name}.messages" if found.whole else f"{name}.segments"] = found.segments
            numbers[f"{name}.bytes_sent"] = found.bytes_sent
            numbers[f"{name}.bytes_received"] = found.bytes_received
            numbers[f"{name}.connections"] = found.connections
        self._rounds.append(numbers)

    def end(self) -> list[Numbers]:
        self._watch.ignore()
        return self._rounds

    def touched(self, service: str) -> bool:
        """Whether anything went to a service in the last round; True where that isn't known."""
        return not self._rounds or any(name.startswith(f"{service}.") for name in self._rounds[-1])

    def _asked(self, ask: Callable[[Mapping[Peer, str]], dict[bytes, Connection]]) -> dict[bytes, Connection]:
        try:
            return ask(self._names)
        except OSError as error:
            if lost(error):
                raise CannotCount("some messages weren't counted: more connections ended than are kept") from None
            raise CannotCount(f"some messages weren't counted: {error.strerror or error}") from None


class RedisCommands:
    """Commands by name, as a Redis of ours has counted them, those of scripts and those it refused included."""

    def __init__(self, service: Service) -> None:
        self.families = [COMMANDS]
        self._service = service
        self._client: redis.Redis | None = None
        self._before: Tally[str] = Tally()
        self._rounds: list[Numbers] = []

    def begin(self) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        if self._client is None or self._client.get_connection_kwargs()["port"] != self._service.address.port:
            self._client = redis.Redis.from_url(
                self._service.address.url,
                socket_timeout=REDIS_LIMIT_S,
                client_name=KEPT_CONNECTION_NAME,
                retry=Retry(NoBackoff(), 0),
            )
            self._calls()  # connects
        self._rounds = []

    def enter(self) -> None:
        self._before = self._calls()

    def leave(self) -> None:
        after = self._calls()
        after.subtract(self._before)
        after["INFO"] -= 1  # the one of `enter`
        self._rounds.append({f"redis.command {name}": calls for name, calls in after.items() if calls})

    def end(self) -> list[Numbers]:
        return self._rounds

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _calls(self) -> "Tally[str]":
        from redis import RedisError

        assert self._client is not None
        try:
            found: dict[str, dict[str, int]] = self._client.info("commandstats")
        except (RedisError, OSError) as error:
            raise CannotCount(f"some Redis commands weren't counted: {error}") from None
        return Tally(
            {
                name.removeprefix("cmdstat_").replace("|", " ").upper(): one["calls"] + one.get("rejected_calls", 0)
                for name, one in found.items()
            }
        )


class PostgresStatements:
    """Statements by text and the rows they read, from the log of a PostgreSQL of ours.

    EXPLAIN says what they read, afterwards: one statement of each text and pass is executed again and rolled back.
    """

    def __init__(self, service: Service, note: Callable[[str], None]) -> None:
        self.families = [STATEMENTS, ROWS]
        self._service = service
        self._note = note
        self._session: _Session | None = None
        self._marks: list[str] = []
        self._rows: dict[Executed, float] = {}

    def begin(self) -> None:
        self.families = [STATEMENTS, ROWS]
        self._marks = []
        self._rows = {}
        if self._session is None or self._session.url != self._service.address.url or self._session.is_lost():
            self.close()
            self._session = _Session(self._service.address.url)
        self._execute("ALTER SYSTEM SET log_min_duration_statement = 0")
        self._execute("SELECT pg_reload_conf()")
        deadline_s = time.monotonic() + ANSWER_LIMIT_S
        while self._fetch("SHOW log_min_duration_statement")[0][0] != "0":
            if time.monotonic() > deadline_s:
                raise CannotCount("SQL statements can't be counted: [postgres.config] sets log_min_duration_statement")
            time.sleep(RELOAD_S)
        time.sleep(RELOAD_S)  # the other sessions hear of it at the same moment, but one after another

    def enter(self) -> None:
        self._mark()

    def leave(self) -> None:
        self._mark()

    def end(self) -> list[Numbers]:
        self._execute("ALTER SYSTEM RESET log_min_duration_statement")
        self._execute("SELECT pg_reload_conf()")
        if not self._marks:
            return []
        log = self._service.log_since(self._marks[0], self._marks[-1], ANSWER_LIMIT_S)
        parts = between(log, self._marks)
        if not parts:
            raise CannotCount("some SQL statements weren't counted: PostgreSQL's log doesn't show them")
        return [self._numbers(part) for part in parts[::2]]

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _mark(self) -> None:
        self._marks.append(f"SELECT 'counting {secrets.token_hex(4)}'")
        self._execute(self._marks[-1])

    def _numbers(self, part: list[Executed]) -> Numbers:
        numbers: Numbers = dict(Tally(f"postgres.{one.kind} {normalised(one.text)}" for one in part))
        rows = 0.0
        for label, one in {normalised(one.text): one for one in part if one.kind == "statement"}.items():
            if ROWS in self.families and reads_tables(one.text):
                try:
                    rows += numbers[f"postgres.statement {label}"] * self._read_by(one)
                except CannotCount as error:
                    self.families = [STATEMENTS]
                    self._note(f"rows read can't be counted where {label} is executed: {error}")
        return {**numbers, ROWS: rows} if rows and ROWS in self.families else numbers

    def _read_by(self, one: Executed) -> float:
        if one not in self._rows:
            prepare, execute = f"PREPARE counted AS {one.text}", "EXECUTE counted"
            if one.parameters:
                execute += f"({', '.join(one.parameters)})"
            try:
                self._execute("BEGIN")
                self._fetch(prepare)  # which takes one statement and no more, and so never a COMMIT behind it
                [[plan]] = self._fetch(f"EXPLAIN (ANALYZE, VERBOSE, COSTS OFF, TIMING OFF, FORMAT JSON) {execute}")
                self._rows[one] = rows_read(json.loads(plan)[0]["Plan"])
            finally:
                self._execute("ROLLBACK; DEALLOCATE ALL; SELECT pg_advisory_unlock_all()")
        return self._rows[one]

    def _execute(self, statements: str) -> None:
        self._asked(lambda session: session.execute(statements))

    def _fetch(self, statement: str) -> list[Any]:
        return self._asked(lambda session: session.fetch(statement))

    def _asked(self, ask: Callable[["_Session"], T]) -> T:
        from asyncpg import InterfaceError, PostgresError

        assert self._session is not None
        try:
            return ask(self._session)
        except (PostgresError, InterfaceError, OSError, TimeoutError) as error:
            raise CannotCount(f"some SQL statements weren't counted: {error or 'no answer in time'}") from None


class _Session:
    """A connection on an event loop in a thread of its own: in the test's thread the test's loop may be running."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._connection: asyncpg.Connection | None = None

    def is_lost(self) -> bool:
        """Whether it had a connection that is closed now."""
        return self._connection is not None and self._connection.is_closed()

    def execute(self, statements: str) -> None:
        """Execute statements, by PostgreSQL's simple protocol."""
        self._wait(self._do(lambda connection: connection.execute(statements)))

    def fetch(self, statement: str) -> list[Any]:
        """The rows of a statement; more than one is an error."""
        return self._wait(self._do(lambda connection: connection.fetch(statement)))

    def close(self) -> None:
        """Close the connection and end the thread; harmless when called again."""
        if self._loop.is_closed():
            return
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, ANSWER_LIMIT_S), self._loop).result()

    async def _do(self, work: "Callable[[asyncpg.Connection], Awaitable[T]]") -> T:
        import asyncpg

        if self._connection is None:
            settings = {"statement_timeout": str(EXPLAIN_LIMIT_MS), "lock_timeout": str(LOCK_LIMIT_MS)}
            self._connection = await asyncpg.connect(
                self.url,
                timeout=ANSWER_LIMIT_S,
                statement_cache_size=0,
                server_settings={"application_name": KEPT_CONNECTION_NAME, **settings},
            )
        return await work(self._connection)

    async def _close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            self._connection.terminate()


def _sorted(ended: Sequence[Sequence[Numbers]], operations: int, families: list[str]) -> Counts:
    """Tell what is the same in all rounds from what varies; `ended`: by source and round."""
    counts = Counts(families=families)
    for rounds in ended:
        for name in sorted({name for numbers in rounds for name in numbers}):
            values = [numbers.get(name, 0) / operations for numbers in rounds]
            if all(values) and same_count(name, values):
                counts.same[name] = max(values)
            elif any(values):
                counts.varying[name] = values
    return counts
