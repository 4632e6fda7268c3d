"""The counting pass: a few untimed rounds after the timed ones, in which messages, commands and statements are counted.

A count covers the block inside `with timer`. The requests that take the counts (a read of the kernel's table of
sockets, an INFO command, a mark in PostgreSQL's log) are not counted.
"""

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

from msgspec.structs import replace

from plumbline.counting.call_sites import BlockingCalls, CallSites
from plumbline.counting.families import (
    BUFFERS,
    CPU,
    PARSES,
    READS,
    ROWS,
    STATEMENTS,
    CannotCount,
    Numbers,
    Source,
    divisor,
    kind_of,
    of_statement,
    same_count,
)
from plumbline.counting.holds import LoopHolds
from plumbline.counting.memory import MemoryReader
from plumbline.counting.postgres_statements import PostgresStatements
from plumbline.counting.probes import ProbeSource, Reader, probed_in
from plumbline.counting.redis_commands import RedisCommands
from plumbline.counting.rest import Rest
from plumbline.counting.sockets import SocketSource, SocketWatch, peers_of
from plumbline.results.schema import Counts
from plumbline.services.services import Services

PASSES = 3
# A benchmark whose rounds take longer than LONG_S has LEAST_PASSES.
LONG_S, LEAST_PASSES = 0.02, 2
COUNTED_SERVICES = ("redis", "postgres", "app")
# Readers of probes by the probe's name. Memory is counted in rounds of its own.
CALLS: Mapping[str, Reader] = {"sites": CallSites(), "blocking": BlockingCalls()}
MEMORY: Mapping[str, Reader] = {"memory": MemoryReader()}
MEMORY_ROUNDS = 2

T = TypeVar("T")


class Round:
    """Replaces the timer in a counting pass. A source that cannot count is dropped, with a note."""

    def __init__(self, note: Callable[[str], None], left: Callable[[], None]) -> None:
        self._note = note
        self._left = left
        self._sources, self._left_out = list[Source](), list[Source]()
        self._ended: list[tuple[Source, list[Numbers]]] = []
        self._began_s = self.took_s = 0.0  # of the last round

    def begin(self, *sources: Source) -> None:
        """Begin or restart the pass. New sources are placed before the others."""
        self._sources[:0] = sources
        self._each(self._counting(), lambda source: source.begin())

    def replace(self, old: Source, new: Source) -> None:
        """End a source, and begin another one in its place."""
        self._ended += self._each([old], lambda source: source.end())
        self._sources[self._sources.index(old)] = new
        self._each([new], lambda source: source.begin())

    def __enter__(self) -> None:
        self._each(self._counting(), lambda source: source.enter())
        self._began_s = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.took_s = time.perf_counter() - self._began_s
        self._each(reversed(self._counting()), lambda source: source.leave())
        self._left()

    def idle(self, seconds: float, sources: Iterable[Source]) -> None:
        """Count for a while in which the test does nothing."""
        counting = [source for source in sources if source in self._counting()]
        self._each(counting, lambda source: source.enter())
        time.sleep(seconds)
        self._each(reversed(counting), lambda source: source.leave())

    def end(self) -> list[tuple[Source, list[Numbers]]]:
        """End every source, so that it cleans up, and return each source's counts by round."""
        self._ended += self._each(self._sources, lambda source: source.end())
        return [(source, numbers) for source, numbers in self._ended if source not in self._left_out]

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
    """Counts for the benchmarks of a run. Call `close` at the end."""

    def __init__(self, services: Services, *, is_compared: bool = False, memory: bool = True) -> None:
        """`is_compared`: whether each round counts all calls, in place of the longest hold of an event loop in some.

        `memory`: whether to count memory, unless the settings switch it off.
        """
        self.notes: list[str] = []  # what cannot be counted and why, without duplicates
        self._services = services
        self._watch: SocketWatch | None = None
        try:
            self._watch = SocketWatch()
        except CannotCount as error:
            self._note(f"messages, bytes and connections can't be counted here: {error}")
        redis, postgres = services.redis, services.postgres
        for what, service in ("Redis commands", redis), ("SQL statements, rows and buffers read", postgres):
            if service and not service.can_be_counted():
                self._note(f"{what} can't be counted: this run did not start the server")
        self._redis = RedisCommands(redis, self._note) if redis and redis.can_be_counted() else None
        self._postgres = PostgresStatements(postgres, self._note) if postgres and postgres.can_be_counted() else None
        self._rest = Rest(self._watch, self._note)
        self._calls, self._memory = (
            ProbeSource(readers, services.probes, services.own_folders, self._note, self._rest.wait)
            for readers in (CALLS, MEMORY)
        )
        self._holds = LoopHolds(services.probes, services.own_folders, self._rest.wait)
        self._is_compared = is_compared
        self._counts_memory = memory and services.counts.memory

    def rounds(self, operations: int, left: Callable[[], None]) -> Generator[Round, None, Counts]:
        """Yield a context manager for each round of the pass, and return the counts per operation.

        `operations` is the number of operations in a round. `left` is called after each round. If the first round uses
        PostgreSQL, statements are logged from then on, and that round is discarded.
        """
        self._note_unprobed()
        found = yield from self._count_servers(operations, left)
        if self._counts_memory:
            found = merged(found, (yield from self._count_memory(operations, left)))
        return replace(found, loop_hold=self._holds.longest)

    def _count_servers(self, operations: int, left: Callable[[], None]) -> Generator[Round, None, Counts]:
        counted = {*COUNTED_SERVICES, *self._services.stack}
        names = {
            peer: service.name
            for service in self._services.running()
            if service.name in counted
            for peer in peers_of(service.address.host, service.address.port)
        }
        sockets = SocketSource(self._watch, names) if self._watch else None
        round_ = Round(self._note, left)
        self._rest.names = names if self._services.code_under_test() else {}
        # The servers' own counts before the sockets, which must not see their requests. Probes are left first: they
        # wait for the code under test. Calls are counted in the last rounds, because that slows Python down.
        inside = self._calls if self._is_compared else self._holds
        round_.begin(*(source for source in (self._redis, sockets, inside) if source is not None))
        families: list[str] = []
        watched: list[Source] = []
        try:
            yield round_
            passed = 1
            if self._postgres is not None and (sockets is None or sockets.touched("postgres")):
                round_.begin(self._postgres)
                passed = 0
            elif self._postgres is not None:
                families += STATEMENTS, ROWS, BUFFERS  # counted: none
            for _ in range(passed, (PASSES if round_.took_s < LONG_S else LEAST_PASSES) - 1):
                yield round_
            if inside is self._holds:
                round_.replace(self._holds, self._calls)
            yield round_
            if inside is self._holds and self._calls.has_counted():
                yield round_  # such a call may not be in each round
            if self._redis is not None and (idle_s := self._redis.idle_s()):
                watched = [source for source in (self._redis, sockets) if source is not None]
                round_.idle(idle_s, watched)
        finally:
            ended = round_.end()
        ended = [(one, with_background(numbers) if one in watched else numbers) for one, numbers in ended]
        return counts_of(ended, operations, families)

    def _count_memory(self, operations: int, left: Callable[[], None]) -> Generator[Round, None, Counts]:
        round_ = Round(self._note, left)
        round_.begin(self._memory)
        discarded = 1  # in which each process notices whether it does anything
        try:
            yield round_
            if round_.took_s < LONG_S:  # the first round with a tracker may allocate a little more
                discarded += 1
                yield round_
            for _ in range(MEMORY_ROUNDS):
                yield round_
        finally:
            ended = [(source, numbers[discarded:]) for source, numbers in round_.end()]
        return counts_of(ended, operations, [])

    def _note_unprobed(self) -> None:
        """Note which processes of the code under test have no probes, as they run no Python."""
        probed = probed_in(self._services.probes)
        unprobed = [one.name for one in self._services.code_under_test() if one.running() and one.name not in probed]
        what = f"blocking calls{' and allocations' * self._services.counts.memory}"
        if unprobed:
            self._note(f"{what} can't be counted in {', '.join(unprobed)}: no Python runs there")

    def close(self) -> None:
        for one in (self._redis, self._postgres, self._watch):
            if one is not None:
                one.close()

    def _note(self, text: str) -> None:
        text = self._services.scrub(text)
        if text not in self.notes:
            self.notes.append(text)


def with_background(rounds: Sequence[Numbers]) -> list[Numbers]:
    """Replace the last of these rounds, which was idle, by a round without what was counted in it.

    So a count varies if a worker adds to it while it waits for work, more of it in longer rounds.
    """
    *rounds, idle = rounds
    return [*rounds, {name: max(0.0, n - idle.get(name, 0.0)) for name, n in rounds[-1].items()}] if rounds else []


def counts_of(ended: Sequence[tuple[Source, Sequence[Numbers]]], operations: int, families: list[str]) -> Counts:
    """Separate counts that are the same in all rounds from those that vary. `ended` has the rounds of each source."""
    families = families + [family for source, _ in ended for family in source.families]
    counts = Counts(families=families)
    for source, rounds in ended:
        for name in sorted({name for numbers in rounds for name in numbers}):
            values = [numbers.get(name, 0) / divisor(name, operations) for numbers in rounds]
            if all(values) and name != CPU and same_count(name, values):
                counts.same[name] = max(values)
            elif any(values):
                counts.varying[name] = values
        if isinstance(source, PostgresStatements):
            counts.plans.update(source.plans)
            counts.unread.extend(source.unread)
        if isinstance(source, ProbeSource):
            for name, sites in source.sites.items():
                counts.sites[name] = [replace(one, count=one.count / divisor(name, operations)) for one in sites]
    for name, number in counts.same.items():
        executed = counts.sites.get(of_statement(STATEMENTS, name), [])
        # If each execution is parsed, as psycopg does without preparing, the parses have its lines.
        if kind_of(name) == PARSES and name not in counts.sites and number == sum(one.count for one in executed):
            counts.sites[name] = executed
    for name in [*counts.same, *counts.varying]:
        readers = counts.sites.get(of_statement(STATEMENTS, name), []) if kind_of(name) in READS else []
        if readers:
            each = counts.same.get(name, max(counts.varying.get(name, [0.0]))) / sum(one.count for one in readers)
            counts.sites[name] = [replace(one, count=each * one.count) for one in readers]
    return counts


def merged(one: Counts, other: Counts) -> Counts:
    return Counts(
        {**one.same, **other.same},
        {**one.varying, **other.varying},
        one.families + other.families,
        {**one.sites, **other.sites},
        {**one.plans, **other.plans},
        one.unread + other.unread,
    )
