"""The counting pass: after the timed rounds, a few more of the same body, in which messages and statements are counted.

Each count covers the time from entering `with timer` to leaving it. The work of a source of counts (a reading of the
kernel's table of sockets, an INFO, a mark in PostgreSQL's log) is outside that window.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import TypeVar

from plumbline.counting.families import ROWS, STATEMENTS, CannotCount, Numbers, Source, same_count
from plumbline.counting.servers import PostgresStatements, RedisCommands
from plumbline.counting.sockets import SocketSource, SocketWatch, peers_of
from plumbline.results.schema import Counts
from plumbline.services.services import Services

PASSES = 3
COUNTED_SERVICES = ("redis", "postgres", "app")

T = TypeVar("T")


class Round:
    """Takes the timer's place in the rounds of a counting pass; leaves out a source that cannot count, with a note."""

    def __init__(self, note: Callable[[str], None], left: Callable[[], None]) -> None:
        self._note = note
        self._left = left
        self._sources, self._left_out = list[Source](), list[Source]()

    def begin(self, *sources: Source) -> None:
        """Begin the pass, anew if need be; sources that are given come before the others."""
        self._sources[:0] = sources
        self._each(self._counting(), lambda source: source.begin())

    def __enter__(self) -> None:
        self._each(self._counting(), lambda source: source.enter())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._each(reversed(self._counting()), lambda source: source.leave())
        self._left()

    def end(self) -> list[tuple[Source, list[Numbers]]]:
        """Return what each source has counted, by round; every source ends, as it may have something to put back."""
        found = self._each(self._sources, lambda source: source.end())
        return [(source, numbers) for source, numbers in found if source not in self._left_out]

    def _counting(self) -> list[Source]:
        return [source for source in self._sources if source not in self._left_out]

    def _each(self, sources: Iterable[Source], step: Callable[[Source], T]) -> list[tuple[Source, T]]:
        done = []
        for source in sources:
            try:
                done.append((source, step(source)))
            except CannotCount as error:
                self._left_out.append(source)
                self._note(str(error))
        return done


class Counter:
    """Counts for all benchmarks of a run; `close` it at the end."""

    def __init__(self, services: Services) -> None:
        self.notes: list[str] = []  # what cannot be counted here, and why, once each
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
        names = {
            peer: service.name
            for service in self._services.running()
            if service.name in COUNTED_SERVICES
            for peer in peers_of(service.address.host, service.address.port)
        }
        sockets = SocketSource(self._watch, names) if self._watch else None
        round_ = Round(self._note, left)
        # The sockets last: what the others ask is outside their window.
        round_.begin(*(source for source in (self._redis, sockets) if source is not None))
        families: list[str] = []
        try:
            yield round_
            passed = 1
            if self._postgres is not None and (sockets is None or sockets.touched("postgres")):
                round_.begin(self._postgres)
                passed = 0
            elif self._postgres is not None:
                families += STATEMENTS, ROWS  # none of them
            for _ in range(passed, PASSES):
                yield round_
        finally:
            ended = round_.end()
        families += [family for source, _ in ended for family in source.families]
        return _sorted([numbers for _, numbers in ended], operations, families)

    def close(self) -> None:
        for one in (self._redis, self._postgres, self._watch):
            if one is not None:
                one.close()

    def _note(self, text: str) -> None:
        text = self._services.scrub(text)
        if text not in self.notes:
            self.notes.append(text)


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
