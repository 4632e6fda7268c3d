"""The measuring loop: `for timer in measure(): with timer: …`.

It owns warm-up, the number of samples, garbage collection, and the second try where a budget is broken or the machine
was throttled. It knows nothing of pytest.
"""

import gc
import math
from collections.abc import Callable, Generator
from time import perf_counter
from typing import TYPE_CHECKING, Self

from plumbline.counting.counter import Counter, Round
from plumbline.measuring.statistics import Summary, summarize
from plumbline.results.counts import Counts
from plumbline.settings import Budget, Profile

LEAST_SAMPLES = 7
PATIENCE = 5
"""A benchmark that asks for a number of samples of its own may take this many times the profile's limit; another may
take this many times its samples, where they are short."""
LEAST_TIMED_S = 0.025
"""Shared machines stall for some 10 ms at a time: samples that take less than this together could all lie in there."""
SHORTEST_SAMPLE_S = 5e-6
"""Below this, entering and leaving `with timer` (some 0.06 µs) is more than 1 % of a sample."""


class MeasureError(Exception):
    """A benchmark uses `measure` in a way that measures nothing, or not what it says."""


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
        counter: Counter | None = None,
    ) -> None:
        """Times `samples`, and more, up to `most_samples`, where they take less than LEAST_TIMED_S.

        `retry` looks at a finished measurement and says why it should be made again, or nothing. `counter` counts in
        a few rounds after the timed ones.
        """
        self.operations = operations
        self.summary: Summary | None = None
        self.retried: str = ""
        """Why it was measured a second time, if it was."""
        self.counts = Counts()
        self._wanted = samples
        self._most = most_samples
        self._warmup = warmup
        self._timed_limit_s = timed_limit_s
        self._retry = retry
        self._counter = counter
        self._counting: Generator[Round, None, Counts] | None = None
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

    async def __anext__(self) -> Timer | Round:
        try:
            return self.__next__()
        except StopIteration:
            raise StopAsyncIteration from None

    def __next__(self) -> Timer | Round:
        """The timer of the next round; raises MeasureError where a round didn't time exactly one sample."""
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
        """Give the garbage collector back, and stop counting; harmless when called again."""
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

    def _count(self, summary: Summary) -> Round:
        """The next counting round; raises StopIteration after the last."""
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
    """What the fixture `measure` gives to a test: call it once, iterate what it returns, read `result`."""

    def __init__(
        self,
        profile: Profile,
        retry: Callable[[Summary, Budget | None], str],
        once: str = "",
        counter: Counter | None = None,
        in_turns: Callable[[int], Measurement] | None = None,
        *,
        rounds: int = 1,
    ) -> None:
        """`once`: why each benchmark runs no more than these `rounds`, untimed, if so; then nothing is counted either.

        `in_turns` makes the measurement of a side of a paired comparison, given the operations of a sample.
        """
        self._profile = profile
        self._counter = None if once else counter
        self._retry = retry
        self.once = once
        self._rounds_of_once = rounds
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

        `operations`: how many one sample contains; figures are per operation. `samples` and `warmup`, in rounds, take
        the place of the profile's, whose warm-up is in operations. `budget` takes the place of the one in
        settings.toml. `renamed_from`: the key that this benchmark had before, which keeps its history. Raises
        MeasureError for a second call or figures below 1.
        """
        if self.measurement is not None:
            raise MeasureError("measure() was called twice: one measurement a test, so that its name says what it is")
        if operations < 1 or (samples is not None and samples < LEAST_SAMPLES) or (warmup or 0) < 0:
            raise MeasureError(f"measure() wants operations >= 1, samples >= {LEAST_SAMPLES} and warmup >= 0")
        self.budget = budget
        self.renamed_from = renamed_from
        if self._in_turns is not None:
            self.measurement = self._in_turns(operations)
            return self.measurement
        wanted = self._rounds_of_once if self.once else samples or self._profile.samples
        self.measurement = Measurement(
            samples=wanted,
            most_samples=wanted if self.once or samples else wanted * PATIENCE,
            warmup=0 if self.once else math.ceil(self._profile.warmup / operations) if warmup is None else warmup,
            timed_limit_s=self._profile.timed_limit_s * (PATIENCE if samples else 1),
            operations=operations,
            retry=lambda summary: "" if self.once else self._retry(summary, self.budget),
            counter=self._counter,
        )
        return self.measurement

    @property
    def result(self) -> Summary:
        """The figures, once the loop has ended; raises MeasureError before."""
        if self.measurement is None or self.measurement.summary is None:
            raise MeasureError("measure.result is known only after the loop over measure() has come to its end")
        return self.measurement.summary


def warnings_of(summary: Summary, operations: int, retried: str) -> list[str]:
    """What a reader of the figures should know about how they came about."""
    warnings = [f"measured twice: {retried}"] if retried else []
    if (sample_s := summary.median_s * operations) < SHORTEST_SAMPLE_S:
        warnings.append(
            f"a sample takes {sample_s * 1e6:.2f} µs, too short for the clock:"
            " put more operations into one, measure(operations=…)"
        )
    return warnings
