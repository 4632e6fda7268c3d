"""The counting pass: after the timed rounds, a few more of the same body, in which messages and statements are counted.

Each count covers the time from entering `with timer` to leaving it. The work of a source of counts (reading the kernel's
table of sockets, an INFO, a mark in PostgreSQL's log) is outside that window.
"""

from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import TypeVar

from plumbline.counting.families import same_count
from plumbline.counting.postgres_statements import PostgresStatements
from plumbline.counting.redis_commands import RedisCommands
from plumbline.counting.sock_diag import Peer, SocketWatch, peers_of
from plumbline.counting.sockets import SocketSource
from plumbline.counting.sources import CannotCount, Numbers, Source
from plumbline.results.counts import Counts
from plumbline.services import Services

PASSES = 3
COUNTED_SERVICES = ("redis", "postgres", "app")

T = TypeVar("T")


class Round:
    """Takes the timer's place in a counting round."""

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
        """What cannot be counted here, and why, once each."""
        self._services = services
        self._watch: SocketWatch | None = None
        try:
            self._watch = SocketWatch()
        except CannotCount as error:
            self._note(f"messages, bytes and connections can't be counted here: {error}")
        redis, postgres = services.redis, services.postgres
        for what, service in ("Redis commands", redis), ("SQL statements and rows read", postgres):
            if service and not service.own:
                self._note(f"{what} can't be counted: the server is not one that this run has started")
        self._redis = RedisCommands(redis) if redis and redis.own else None
        self._postgres = PostgresStatements(postgres, self._note) if postgres and postgres.own else None

    def rounds(self, operations: int, left: Callable[[], None]) -> Generator[Round, None, Counts]:
        """Yield a context manager for each round of the pass; the generator returns the counts.

        `operations`: in one round. `left` is called after each round. If a benchmark uses PostgreSQL, the first round
        is thrown away: only then does PostgreSQL begin to log.
        """
        sockets = SocketSource(self._watch, self._addresses()) if self._watch else None
        postgres = self._guarded(self._postgres) if self._postgres else None
        # The sockets last: what the others ask is outside their window.
        sources = [self._guarded(source) for source in (self._redis, sockets) if source is not None]
        families: list[str] = []
        for source in sources:
            source.begin()
        try:
            yield Round(sources, left)
            passed = 1
            if postgres is not None and (sockets is None or sockets.touched("postgres")):
                sources.insert(0, postgres)
                for source in sources:
                    source.begin()
                passed = 0
            elif postgres is not None:
                families += postgres.families  # each of them 0
            for _ in range(passed, PASSES):
                yield Round(sources, left)
        finally:
            ended = [source.end() for source in sources]
        families += [family for source in sources for family in source.families]
        return _sorted(ended, operations, families)

    def close(self) -> None:
        """Close connections and sockets."""
        for one in (self._redis, self._postgres, self._watch):
            if one is not None:
                one.close()

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
    """A source that is left out of the rest of a pass, with a note, once it cannot count."""

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
        # `end` always runs: there may be something to put back.
        if self._well or work == self._source.end:
            try:
                return work()
            except CannotCount as error:
                self._well = False
                self._note(str(error))
        return None


def _sorted(ended: Sequence[Sequence[Numbers]], operations: int, families: list[str]) -> Counts:
    """Separate counts that are the same in all rounds from those that vary; `ended`: by source and round."""
    counts = Counts(families=families)
    for rounds in ended:
        for name in sorted({name for numbers in rounds for name in numbers}):
            values = [numbers.get(name, 0) / operations for numbers in rounds]
            if all(values) and same_count(name, values):
                counts.same[name] = max(values)
            elif any(values):
                counts.varying[name] = values
    return counts
