"""Waiting for a service: backoff, what is worth retrying, and what a failure says. With a clock that never waits."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import redis.exceptions

from plumbline.services import base
from plumbline.services.address import Address
from plumbline.services.base import Service
from plumbline.services.errors import NotReady


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        self.now_s += delay_s


class Subject(Service):
    """A service that answers as it is told to, one outcome an attempt, the last one for ever."""

    advice_at_limit = "raise ready_limit_s of this one"

    def __init__(self, *outcomes: str | Exception, runs_for: int = 1_000_000) -> None:
        address = Address("redis", "127.0.0.1", 6379, user="perf", password="p4ss/word")
        super().__init__("redis", "docker", "set in settings.toml", address)
        self.outcomes = list(outcomes)
        self.looks_left = runs_for
        self.limits_s: list[float] = []
        self.clock = Clock()

    def probe(self, limit_s: float) -> str:
        self.limits_s.append(limit_s)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def advice(self, error: BaseException) -> str:
        return "" if isinstance(error, OSError) else "check user and password"

    def running(self) -> bool:
        self.looks_left -= 1
        return self.looks_left >= 0

    def state(self) -> str:
        return "exited with code 3" if self.looks_left < 0 else "running"

    def raw_log(self, lines: int) -> str:
        return f"loading the data, {lines} lines at most\nrequirepass p4ss/word is set"


def wait(subject: Subject, limit_s: float = 60.0, uniform: Callable[[float, float], float] = max) -> Clock:
    """Wait for it with a clock of the test. By default each delay is the longest one."""
    clock = subject.clock
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "time", SimpleNamespace(monotonic=clock, sleep=clock.sleep))
        patch.setattr(base, "random", SimpleNamespace(uniform=uniform))
        subject.wait_ready(limit_s)
    return clock


def test_ready_at_once_never_sleeps() -> None:
    """A service that answers the first probe is ready without any delay."""
    subject = Subject("Redis 8.0.1")
    clock = wait(subject)

    assert (subject.product, subject.version, subject.ready_s) == ("Redis", "8.0.1", 0)
    assert clock.slept_s == []


def test_ready_at_the_third_try() -> None:
    """Errors that are worth retrying are retried, with growing delays."""
    subject = Subject(ConnectionError("refused"), ConnectionError("refused"), "Redis 8.0.1")
    clock = wait(subject)

    assert (subject.product, subject.version, subject.ready_s) == ("Redis", "8.0.1", clock.now_s)
    assert len(clock.slept_s) == 2
    assert clock.slept_s[0] < clock.slept_s[1]


def test_never_ready_says_everything() -> None:
    """At the deadline the message has all that the reader at night needs, and no password."""
    with pytest.raises(NotReady) as failed:
        wait(Subject(ConnectionError("refused")), limit_s=20)

    text = str(failed.value)
    assert "redis is not ready: the time is up after 20.0 s and" in text
    for part in (
        "docker (set in settings.toml)",
        "redis://perf@127.0.0.1:6379",
        "last error  ConnectionError: refused",
        "state       running",
        "| loading the data",
        "next        raise ready_limit_s of this one",
    ):
        assert part in text
    assert "p4ss" not in text


def test_final_error_ends_it_at_once() -> None:
    """An error that no retry can cure ends the waiting with the first attempt, and says what to do."""
    subject = Subject(redis.exceptions.AuthenticationError("invalid password"))

    with pytest.raises(
        NotReady, match=r"the error is final after 0\.0 s and 1 attempt\n(.*\n)*.*check user and password"
    ):
        wait(subject)

    assert len(subject.limits_s) == 1


def test_dead_before_the_first_attempt() -> None:
    """A process that has exited isn't probed at all."""
    subject = Subject("Redis 8.0.1", runs_for=0)

    with pytest.raises(NotReady, match=r"it has exited after 0\.0 s and 0 attempts"):
        wait(subject)

    assert subject.limits_s == []


def test_death_while_waiting_ends_it_with_the_exit_code() -> None:
    """The process is looked at on every attempt."""
    subject = Subject(ConnectionError("refused"), runs_for=2)

    with pytest.raises(NotReady, match="exited with code 3"):
        wait(subject)

    assert len(subject.limits_s) == 2


def test_delays_are_jittered_and_limited() -> None:
    """Each delay is drawn between nothing and an upper end that grows up to half a second."""
    ends: list[float] = []

    def uniform(low: float, high: float) -> float:
        assert low == 0
        ends.append(high)
        return high / 2

    subject = Subject(OSError("no"))
    with pytest.raises(NotReady):
        wait(subject, 10, uniform)

    assert ends == sorted(ends)
    assert ends[0] < 0.01
    assert ends[-1] == 0.5
    assert subject.clock.now_s <= 10.001


def test_an_attempt_never_outlasts_the_deadline() -> None:
    """Each attempt is given at most the time that is left."""
    subject = Subject(OSError("no"))

    with pytest.raises(NotReady):
        wait(subject, limit_s=1)

    assert max(subject.limits_s) <= 1
    assert min(subject.limits_s) < 0.5
