"""The measuring loop: `for timer in measure(): with timer: …`.

It owns the warm-up, the number of samples, garbage collection, and the repetition of a disturbed measurement. It knows
neither pytest nor the services.
"""

import gc
import math
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, Self

from plumbline.measuring.statistics import Summary, summarize
from plumbline.results.counts import Counts
from plumbline.settings import Budget, Profile

LEAST_SAMPLES = 7
# A benchmark that asks for a number of samples may take this many times the profile's time limit. Another benchmark may
# take this many times the profile's samples if they are short.
PATIENCE = 5
# Shared machines stall for some 10 ms at a time: samples that take less than this in total could all lie in one stall.
LEAST_TIMED_S = 0.025
# Below this, entering and leaving `with timer` (some 0.06 µs) is more than 1 % of a sample.
SHORTEST_SAMPLE_S = 5e-6


class MeasureError(Exception):
    """A benchmark uses `measure` in a way that measures nothing, or something else than it claims."""


class Counting(Protocol):
    """Counts in a few rounds after the timed ones."""

    def rounds(
        self, operations: int, left: Callable[[], None], /
    ) -> Generator[AbstractContextManager[None], None, Counts]:
        """Yield the context manager of each round, and return the counts per operation.

        `operations`: in one round. `left` is called whenever a round was left.
        """


class Timer:
    """Reads the clock on the way into a `with` block and on the way out, nothing else.

    Its two methods are closures in slots rather than methods of the class: `with` finds them without binding `self`,
    which keeps an empty sample below twice a bare pair of `perf_counter` calls.
    """

    __slots__ = ("__enter__", "__exit__")
    if TYPE_CHECKING:

        def __enter__(self) -> None: ...
        def __exit__(self, kind: object, error: object, traceback: object, /) -> None: ...

    def __init__(self, samples_s: list[float]) -> None:
        """Append the seconds of each block to `samples_s`."""
        start = 0.0

        def enter() -> None:
            nonlocal start
            start = perf_counter()

        def leave(_kind: object, _error: object, _traceback: object) -> None:
            end = perf_counter()
            samples_s.append(end - start)

        self.__enter__ = enter  # type: ignore[method-assign]
        self.__exit__ = leave  # type: ignore[method-assign]


class Measurement:
    """One pass of `measure()`: iterate it with `for` or `async for`, and time one sample in each round.

    Not a generator: one that is left by `break` or a failed assertion would leave a task behind.
    """

    def __init__(
        self,
        *,
        samples: int,
        most_samples: int,
        warmup: int,
        timed_limit_s: float,
        operations: int,
        retry: Callable[[Summary], str],
        counter: Counting | None = None,
    ) -> None:
        """Time `samples`, and more, up to `most_samples`, as long as they take less than LEAST_TIMED_S in total.

        `retry` returns why a finished measurement must be repeated, or "".
        """
        self.operations = operations
        self.summary: Summary | None = None
        self.retried: str = ""
        """Why it was measured a second time; "" if it was not."""
        self.counts = Counts()
        self._wanted = samples
        self._most = most_samples
        self._warmup = warmup
        self._timed_limit_s = timed_limit_s
        self._retry = retry
        self._counter = counter
        self._counting: Generator[AbstractContextManager[None], None, Counts] | None = None
        self._timed: Summary | None = None
        self._samples_s: list[float] = []
        self._timer = Timer(self._samples_s)
        self._rounds = 0
        self._timed_s = 0.0
        self._warm = warmup == 0
        self._gc_was_enabled = False

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AbstractContextManager[None]:
        try:
            return self.__next__()
        except StopIteration:
            raise StopAsyncIteration from None

    def __next__(self) -> AbstractContextManager[None]:
        """Return the timer of the next round; raise MeasureError if a round did not time exactly one sample."""
        self._check_round()
        if self._timed is not None:
            return self._count(self._timed)
        if self._rounds == 0:
            self._begin()
        else:
            self._timed_s += self._samples_s[-1]
        if not self._warm and self._is_warm():
            self._warm = True
            self._restart()
        elif self._warm and self._is_finished():
            self._finish()
            if self._timed is not None:
                return self._count(self._timed)
        self._rounds += 1
        return self._timer

    def close(self) -> None:
        """Enable the garbage collector again, and stop counting; harmless if called again."""
        if self._counting is not None:
            self._counting.close()
        if self._gc_was_enabled:
            gc.enable()
            self._gc_was_enabled = False

    def _check_round(self) -> None:
        if len(self._samples_s) != self._rounds:
            times = "never" if len(self._samples_s) < self._rounds else "more than once"
            self.close()
            raise MeasureError(f"a round of measure() entered `with timer` {times}: time one block in each round")

    def _begin(self) -> None:
        if not self._gc_was_enabled:
            gc.collect()
            self._gc_was_enabled = gc.isenabled()
            gc.disable()

    def _restart(self) -> None:
        self._samples_s.clear()
        self._rounds = 0
        self._timed_s = 0.0

    def _is_warm(self) -> bool:
        return self._rounds >= self._warmup or (self._rounds > 1 and self._timed_s >= self._timed_limit_s / 4)

    def _is_finished(self) -> bool:
        if self._rounds >= self._wanted and (self._timed_s >= LEAST_TIMED_S or self._rounds >= self._most):
            return True
        return self._rounds >= LEAST_SAMPLES and self._timed_s >= self._timed_limit_s

    def _finish(self) -> None:
        summary = summarize([sample_s / self.operations for sample_s in self._samples_s])
        if not self.retried:
            self.retried = self._retry(summary)
            if self.retried:
                self._restart()
                return
        self._timed = summary
        if self._counter is not None:
            # A counting round is none of the samples, but entered once as they are.
            self._counting = self._counter.rounds(self.operations, lambda: self._samples_s.append(0.0))

    def _count(self, summary: Summary) -> AbstractContextManager[None]:
        """Return the next counting round; raise StopIteration after the last."""
        if self._counting is not None:
            try:
                round_ = next(self._counting)
            except StopIteration as ended:
                self.counts = ended.value
            else:
                self._rounds += 1
                return round_
        self.summary = summary
        self.close()
        raise StopIteration


class Measure:
    """The fixture `measure` of a test: call it once, iterate over what it returns, then read `result`."""

    def __init__(
        self,
        profile: Profile,
        retry: Callable[[Summary, Budget | None], str] = lambda *_: "",
        counter: Counting | None = None,
        *,
        untimed_rounds: int = 0,
        in_turns: Callable[[int], Measurement] | None = None,
    ) -> None:
        """`retry` returns why a finished measurement must be repeated, or "".

        `untimed_rounds`: run each benchmark this often, without timing and counting, unless it is 0. `in_turns` makes
        the measurement of a worker of a paired comparison from the number of operations in a sample.
        """
        self._profile = profile
        self._retry = retry
        self._counter = counter
        self._untimed_rounds = untimed_rounds
        self._in_turns = in_turns
        self.measurement: Measurement | None = None
        self.budget: Budget | None = None
        self.renamed_from = ""

    def __call__(
        self,
        *,
        operations: int = 1,
        samples: int | None = None,
        warmup: int | None = None,
        budget: Budget | None = None,
        renamed_from: str = "",
    ) -> Measurement:
        """Start the one measurement of this test.

        Args:
            operations: how many operations one sample contains; figures are per operation.
            samples: the number of samples, instead of the profile's.
            warmup: the rounds of warm-up, instead of the profile's operations.
            budget: the service-level objective, instead of the one in settings.toml.
            renamed_from: the former key of this benchmark, which keeps its history.

        Raises:
            MeasureError: for a second call, or for figures that are too small.
        """
        if self.measurement is not None:
            raise MeasureError("measure() was called twice: write one test for each measurement")
        if operations < 1 or (samples is not None and samples < LEAST_SAMPLES) or (warmup or 0) < 0:
            raise MeasureError(f"measure() needs operations >= 1, samples >= {LEAST_SAMPLES} and warmup >= 0")
        self.budget = budget
        self.renamed_from = renamed_from
        if self._in_turns is not None:
            self.measurement = self._in_turns(operations)
            return self.measurement
        untimed, profile = self._untimed_rounds, self._profile
        fixed = untimed or samples
        if untimed:
            warmup = 0
        self.measurement = Measurement(
            samples=fixed or profile.samples,
            most_samples=fixed or profile.samples * PATIENCE,
            warmup=math.ceil(profile.warmup / operations) if warmup is None else warmup,
            timed_limit_s=profile.timed_limit_s * (PATIENCE if samples else 1),
            operations=operations,
            retry=lambda summary: "" if untimed else self._retry(summary, budget),
            counter=None if untimed else self._counter,
        )
        return self.measurement

    @property
    def result(self) -> Summary:
        """The figures; raises MeasureError before the loop has ended."""
        if self.measurement is None or self.measurement.summary is None:
            raise MeasureError("measure.result is known only after the loop over measure() has ended")
        return self.measurement.summary


def warnings_of(summary: Summary, operations: int, retried: str) -> list[str]:
    """Return the warnings that a reader of the figures needs."""
    warnings = [f"measured twice: {retried}"] if retried else []
    if (sample_s := summary.median_s * operations) < SHORTEST_SAMPLE_S:
        warnings.append(
            f"a sample takes {sample_s * 1e6:.2f} µs, too short for the clock:"
            " put more operations into one, measure(operations=…)"
        )
    return warnings
