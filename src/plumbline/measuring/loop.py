"""The measuring loop: `for timer in measure(): with timer: …`. It knows neither pytest nor the services."""

import gc
import math
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Self

from plumbline.measuring.clock import Clock
from plumbline.measuring.statistics import Summary, summarize
from plumbline.results.schema import Counts
from plumbline.settings import Budget, Profile

MIN_SAMPLES = 7
# A benchmark with its own number of samples may take this many times the profile's time limit. Any other benchmark may
# take this many times the profile's samples if they are short.
PATIENCE = 5
# Shared machines stall for some 10 ms at a time: samples that take less than this in total could all lie in one stall.
MIN_TIMED_S = 0.025
MIN_SAMPLE_S = 5e-6  # below this, `with timer` (about 0.06 µs) is more than 1 % of a sample

Steps = Generator[AbstractContextManager[None], None, None]
# The counting pass after the timed rounds. Takes the operations per round and a callback for the end of a round,
# yields a context manager for each round, and returns the counts per operation.
CountingPass = Callable[[int, Callable[[], None]], Generator[AbstractContextManager[None], None, Counts]]


class MeasureError(Exception):
    """The misuse of `measure` in a test, such as a round that times no block, or two blocks.

    The message names the mistake, and the test fails.
    """


class OwnProcess:
    """The process that runs the tests."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def end_if_forked(self) -> None:
        """End a child that a test has forked, and that would run the rest of the suite once more."""
        if os.getpid() != self._pid:
            message = "a test has forked this process, and the child came back to the test: it is ended\n"
            os.write(2, message.encode())
            os._exit(1)


class Timer:
    """The timer of one sample, which the loop over `measure()` yields.

    It reads `time.perf_counter` when the `with` block begins and when it ends, and does nothing else. An empty block
    takes some 0.06 µs.
    """

    # The two methods are closures in slots rather than methods of the class: `with` finds them without binding `self`,
    # which keeps an empty sample below twice a bare pair of `perf_counter` calls.
    __slots__ = ("__enter__", "__exit__")
    if TYPE_CHECKING:

        def __enter__(self) -> None: ...
        def __exit__(self, kind: object, error: object, traceback: object, /) -> None: ...

    def __init__(self, samples_s: list[float]) -> None:
        """Append the seconds of each block to `samples_s`."""
        start, clock = 0.0, Clock.read

        def enter() -> None:
            nonlocal start
            start = clock()

        def leave(_kind: object, _error: object, _traceback: object) -> None:
            end = clock()
            samples_s.append(end - start)

        self.__enter__ = enter  # type: ignore[method-assign]
        self.__exit__ = leave  # type: ignore[method-assign]


class Measure:
    """The measurement of a benchmark, as the fixture `measure` provides it.

    Call it once in a test, iterate over it, and time one block in each round. Coroutine tests iterate with
    `async for`, other tests with `for`. After the loop, `result` holds the figures.

    Example::

        async def test_publish(redis_client: Redis, measure: Measure) -> None:
            async for timer in measure():
                with timer:
                    await redis_client.publish("channel", "message")
    """

    # It is an iterator, not an asynchronous generator: a generator that is left by `break` or by a failed assertion
    # would leave a task behind.

    def __init__(
        self,
        profile: Profile,
        retry: Callable[[Summary, Budget | None], str] = lambda *_: "",
        count: CountingPass | None = None,
        untimed_rounds: int = 0,
    ) -> None:
        self.operations = 0  # 0 until `measure()` is called
        self.operation = ""
        self.budget: Budget | None = None
        self.renamed_from = ""
        self.summary: Summary | None = None
        self.retried = ""  # why it was measured a second time
        self.counts = Counts()
        self._profile = profile
        self._retry = retry  # returns why a finished measurement must be repeated, or ""
        self._count = count
        self._untimed_rounds = untimed_rounds  # run this many untimed rounds instead of measuring; 0: measure
        self._process = OwnProcess()
        self._samples_s: list[float] = []
        self._timer: AbstractContextManager[None] = Timer(self._samples_s)
        self._rounds = 0
        self._steps = self._without_collector(())

    def __call__(
        self,
        *,
        operations: int = 1,
        operation: str = "",
        samples: int | None = None,
        warmup: int | None = None,
        budget: Budget | None = None,
        renamed_from: str = "",
    ) -> Self:
        """Start the measurement of this test, and return the measurement itself to iterate over.

        Args:
            operations: The number of operations in one timed block. All figures are per operation.
            operation: What one operation is, such as "row": reports then show `1.90 µs/row`.
            samples: The number of samples, at least 7. By default, the profile in the settings decides, such as `ci`.
            warmup: The number of rounds before the first sample, which are not timed. By default, the profile decides.
            budget: The limits of this benchmark. They replace those in `settings.toml`.
            renamed_from: The former key of this benchmark, such as `test_cart.py::test_add`. The benchmark is
                judged and shown under that key.

        Returns:
            The measurement, which yields one `Timer` in each round.

        Raises:
            MeasureError: If it is called twice in a test, or with a number that is too small.

        Example::

            for timer in measure(operations=100, samples=1000):
                with timer:
                    for cents in range(100):
                        price(cents)
        """
        if self.operations:
            raise MeasureError("measure() was called twice: write one test for each measurement")
        if operations < 1 or (samples is not None and samples < MIN_SAMPLES) or (warmup or 0) < 0:
            raise MeasureError(f"measure() needs operations >= 1, samples >= {MIN_SAMPLES} and warmup >= 0")
        self.operations = operations
        self.operation = operation
        self.budget = budget
        self.renamed_from = renamed_from
        profile = self._profile
        if self._untimed_rounds:
            samples, warmup = self._untimed_rounds, 0
        if warmup is None:
            warmup = math.ceil(profile.warmup / operations)
        limit_s = profile.timed_limit_s * (PATIENCE if samples else 1)
        most = samples or profile.samples * PATIENCE
        self._steps = self._without_collector(self._passes(warmup, samples or profile.samples, most, limit_s))
        return self

    def __iter__(self) -> Self:
        return self

    __aiter__ = __iter__

    async def __anext__(self) -> AbstractContextManager[None]:
        try:
            return self.__next__()
        except StopIteration:
            raise StopAsyncIteration from None

    def __next__(self) -> AbstractContextManager[None]:
        """Return the timer of the next round; raise MeasureError if a round did not time exactly one sample."""
        self._process.end_if_forked()
        if len(self._samples_s) != self._rounds:
            times = "never" if len(self._samples_s) < self._rounds else "more than once"
            self.close()
            raise MeasureError(f"a round of measure() entered `with timer` {times}: time one block in each round")
        timer = next(self._steps)
        self._rounds += 1
        return timer

    @property
    def result(self) -> Summary:
        """The figures of the measurement, once the loop has ended.

        Raises:
            MeasureError: If the loop has not ended.
        """
        if self.summary is None:
            raise MeasureError("measure.result is known only after the loop over measure() has ended")
        return self.summary

    def close(self) -> None:
        """Stop, and enable the garbage collector again; harmless if called again."""
        self._steps.close()

    def _without_collector(self, steps: Iterable[AbstractContextManager[None]]) -> Steps:
        gc.collect()
        gc_was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield from steps
        finally:
            if gc_was_enabled:
                gc.enable()

    def _passes(self, warmup: int, samples: int, most: int, limit_s: float) -> Steps:
        yield from self._time(warmup, warmup, 2, limit_s / 4)
        while True:
            yield from self._time(samples, most, MIN_SAMPLES, limit_s)
            summary = summarize([sample_s / self.operations for sample_s in self._samples_s])
            if self.retried or not (why := self._retry(summary, self.budget)):
                break
            self.retried = why
        if self._count is not None:
            # `__next__` expects one sample per round, also in the counting pass.
            self.counts = yield from self._count(self.operations, lambda: self._samples_s.append(0.0))
        self.summary = summary

    def _time(self, samples: int, most: int, least: int, limit_s: float) -> Steps:
        """Time `samples` rounds: up to `most` until MIN_TIMED_S is reached, at least `least` beyond `limit_s`."""
        self._samples_s.clear()
        self._rounds = 0
        timed_s = 0.0
        while (self._rounds < samples or (self._rounds < most and timed_s < MIN_TIMED_S)) and (
            self._rounds < least or timed_s < limit_s
        ):
            yield self._timer
            timed_s += self._samples_s[-1]


def warnings_of(summary: Summary, operations: int, retried: str) -> list[str]:
    warnings = [f"measured twice: {retried}"] if retried else []
    if (sample_s := summary.median_s * operations) < MIN_SAMPLE_S:
        warnings.append(
            f"a sample takes only {sample_s * 1e6:.2f} µs, too short for the clock:"
            " put several operations into one sample with measure(operations=…)"
        )
    return warnings
