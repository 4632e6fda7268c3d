"""The line between the coordinator of a paired comparison and its two sides, and `measure` at a side's end of it.

One JSON object a message. A side waits for its turn by blocking the whole thread, so that it burns nothing while the
other one measures.

| coordinator → side | side → coordinator |
| --- | --- |
| what `WorkerLink` is told at its start | `{"imported": true}`, once the tests have been collected |
| | `{"collected", "served", "errors", "origins"}`, once the application has started |
| `{"order"}`: the benchmarks to run | `{"at": KEY}`: `measure` begins |
| `{"samples"}`: a turn | `{"block_s"}`: what each sample took |
| `{"end": true}`: leave the loop | `{"over": KEY, "outcome", "message"}`: the test has ended |
"""

import asyncio
import contextlib
import json
import os
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Self

from plumbline.comparing.statistics.inference import figure
from plumbline.comparing.statistics.plan import Where
from plumbline.comparing.workers.slowed import OFF, REQUESTS, STEPS, shared_numbers, work
from plumbline.measuring.loop import MeasureError, Measurement, Timer
from plumbline.measuring.statistics import summarize
from plumbline.services.address import Address

DRAINING_ROUNDS = 3
STEP_REPEATS, STEPS_AT_ONCE = 3, 1_000
PROFILE = "PERF_PROFILE"
"""Variable that names the folder of a side which is profiled."""


class LineClosed(Exception):
    """The other end has gone."""


class Line:
    """Messages over a connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = b""

    def send(self, **message: object) -> None:
        """Raises LineClosed."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise LineClosed from None

    def receive(self, limit_s: float | None = None) -> dict[str, Any]:
        """The next message; raises LineClosed, TimeoutError, or ValueError where it is no message."""
        deadline_s = None if limit_s is None else time.monotonic() + limit_s
        while b"\n" not in self._received:
            self._socket.settimeout(None if deadline_s is None else max(deadline_s - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                raise
            except OSError:
                data = b""
            if not data:
                raise LineClosed
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise ValueError(f"no message: {line[:80]!r}")
        return message

    def close(self) -> None:
        """Harmless when called again."""
        self._socket.close()


class SlowedTimer(Timer):
    """Makes each block longer by a share of itself, on purpose."""

    __slots__ = ()

    def __init__(self, samples_s: list[float], share: float) -> None:
        start = 0.0

        def enter() -> None:
            nonlocal start
            start = perf_counter()

        def leave(_kind: object, _error: object, _traceback: object) -> None:
            end = until = perf_counter()
            until += (end - start) * share
            while end < until:
                end = perf_counter()
            samples_s.append(end - start)

        self.__enter__ = enter  # type: ignore[method-assign]
        self.__exit__ = leave  # type: ignore[method-assign]


class SlowedApplicationTimer(Timer):
    """Has the application do more in its own process while a block is timed: a share of what a block takes without.

    The share is that of the blocks so far, as they are told, so that it is known what they are told to be slower by;
    each in steps of work as long as those are just after it.
    """

    __slots__ = ("_share", "_shared", "_steps", "_steps_without")

    def __init__(self, samples_s: list[float], share: float) -> None:
        self._share = share
        self._shared = shared = shared_numbers()
        self._shared[STEPS], self._shared[REQUESTS] = OFF, 0
        self._steps = 0.0
        """For each request."""
        self._steps_without: list[float] = []
        start = 0.0

        def enter() -> None:
            nonlocal start
            shared[STEPS] = self._steps
            start = perf_counter()

        def leave(_kind: object, _error: object, _traceback: object) -> None:
            end = perf_counter()
            shared[STEPS] = OFF
            samples_s.append(end - start)

        self.__enter__ = enter  # type: ignore[method-assign]
        self.__exit__ = leave  # type: ignore[method-assign]

    def learn(self, block_s: Sequence[float], step_s: float) -> None:
        """What each sample of a block took, and what a step of work takes now.

        Raises MeasureError without requests. The first block, which warms up, is as fast as the application is.
        """
        requests = self._shared[REQUESTS] / len(block_s)
        self._shared[REQUESTS] = 0
        if not requests:
            raise MeasureError("the application can't slow this down: it was sent no request while a block was timed")
        self._steps_without.append(figure(block_s) / step_s - requests * self._steps)
        self._steps = self._share * statistics.median(self._steps_without) / requests


def step_now_s() -> float:
    """What a step of work takes at the moment, in seconds."""
    times_s = []
    for _ in range(STEP_REPEATS):
        start_s = perf_counter()
        work(STEPS_AT_ONCE)
        times_s.append(perf_counter() - start_s)
    return statistics.median(times_s) / STEPS_AT_ONCE


class TurnedMeasurement(Measurement):
    """One pass of `measure()` in a side: it times as many samples as it is told, when it is told."""

    def __init__(
        self, line: Line, key: str, operations: int, make_timer: Callable[[list[float]], Timer] = Timer
    ) -> None:
        super().__init__(
            samples=1, most_samples=1, warmup=0, timed_limit_s=0.0, operations=operations, retry=lambda _: ""
        )
        self._timer = make_timer(self._samples_s)
        self._line = line
        self._key = key
        self._left = 0
        self._all_s: list[float] = []
        self._over = False

    def __next__(self) -> Any:
        if self._over:
            raise StopIteration  # for a second loop over it there are no turns
        self._check_round()
        if self._rounds == 0:
            self._begin()
        if self._left == 0:
            self._wait_for_turn()
        self._left -= 1
        self._rounds += 1
        return self._timer

    async def __anext__(self) -> Any:
        waits, began_s = self._left == 0, time.monotonic()
        try:
            timer = self.__next__()
        except StopIteration:
            raise StopAsyncIteration from None
        if waits:
            hold_clock(asyncio.get_running_loop(), time.monotonic() - began_s)
            for _ in range(DRAINING_ROUNDS):
                await asyncio.sleep(0)
        return timer

    def _wait_for_turn(self) -> None:
        """Tell what this turn's samples took, and block until the next one. Raises StopIteration at the end."""
        if self._rounds == 0:
            self._line.send(at=self._key)
        else:
            samples_s = [sample_s / self.operations for sample_s in self._samples_s]
            self._all_s += samples_s
            if isinstance(self._timer, SlowedApplicationTimer):
                self._timer.learn(self._samples_s, step_now_s())
            self._line.send(block_s=samples_s)
        turn = self._line.receive()
        self._samples_s.clear()
        self._rounds = 0
        if "samples" not in turn:
            self._over = True
            self._timer.end()
            self.summary = summarize(self._all_s) if self._all_s else None
            self.close()
            raise StopIteration
        self._left = turn["samples"]


class WorkerLink:
    """A side's end of the line, and what it was told at its start."""

    def __init__(self, line: Line) -> None:
        self.line = line
        told = line.receive()
        self.servers: dict[str, dict[str, Any]] = told["servers"]
        """Fields of an Address by the name of the server; those not named, the side finds for itself."""
        self.prefix: str = told["prefix"]
        self.core: int | None = told["core"]
        self.prepare: bool = told["prepare"]
        """Whether `prepare` has to be run: not where the side's database is a copy of one that was prepared."""
        self.rehearses: bool = told["rehearses"]
        """Whether each benchmark runs once, untimed and without turns."""
        self.keys: list[str] = told["keys"]
        """Benchmarks that it may be told to run: what those need is started ahead."""
        self.modules: list[str] = told["modules"]
        """Importable names that differ between the sides."""
        self.slow_down: dict[str, tuple[float, Where]] = told["slow_down"]
        """By how much benchmarks are slowed down on purpose, as a share, and where, by key: controls, and the
        self-check. Base is told of them as well, as 0."""
        self.slows_application = any(where == "application" for _, where in self.slow_down.values())

    def of_services(self) -> dict[str, Any]:
        """Arguments of `Services` that make it a side's."""
        given = {name: Address(**fields) for name, fields in self.servers.items()}
        return {"given": given, "key_prefix": self.prefix, "prepare": self.prepare}

    def timer(self, key: str, samples_s: list[float], operations: int) -> Timer:
        """The timer of a benchmark; `operations`: of each sample."""
        if PROFILE in os.environ:
            from plumbline.comparing.workers.profiler import ProfilingTimer

            return ProfilingTimer(key, samples_s, operations)
        share, where = self.slow_down.get(key, (0.0, "block"))
        if where == "application":
            return SlowedApplicationTimer(samples_s, share)
        return SlowedTimer(samples_s, share) if where == "block" and share else Timer(samples_s)

    @classmethod
    def of(cls, file_number: int) -> Self:
        return cls(Line(socket.socket(fileno=file_number)))


def hold_clock(loop: asyncio.AbstractEventLoop, held_s: float) -> None:
    """Let the loop's clock stand still for the time that its thread was blocked: its deadlines move by the wait."""
    clock = loop.__dict__.get("time") if hasattr(loop, "__dict__") else None
    if clock is None:
        clock = _HeldClock(loop.time)
        with contextlib.suppress(AttributeError):  # a loop written in C keeps its own
            loop.time = clock  # type: ignore[method-assign]
    if isinstance(clock, _HeldClock):
        clock.held_s += held_s


class _HeldClock:
    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.held_s = 0.0

    def __call__(self) -> float:
        now_s: float = self._clock()
        return now_s - self.held_s
