"""Waiting for a service: backoff, retries and messages, with a fake clock."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import redis.exceptions

from plumbline.services import base
from plumbline.services.address import Address
from plumbline.services.base import Service
from plumbline.services.errors import NotReady


class Clock:
    """A fake clock that only `sleep` advances."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        self.now_s += delay_s


class Subject(Service):
    """A service with a given outcome for each attempt. The last outcome repeats."""

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
    """Wait for the service with a fake clock. By default each delay is the longest possible."""
    clock = subject.clock
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "time", SimpleNamespace(monotonic=clock, sleep=clock.sleep))
        patch.setattr(base, "random", SimpleNamespace(uniform=uniform))
        subject.wait_ready(limit_s)
    return clock


def test_ready_at_once_never_sleeps() -> None:
    subject = Subject("Redis 8.0.1")
    clock = wait(subject)

    assert (subject.product, subject.version, subject.ready_s) == ("Redis", "8.0.1", 0)
    assert clock.slept_s == []


def test_ready_at_the_third_attempt() -> None:
    """Other errors are retried with growing delays."""
    subject = Subject(ConnectionError("refused"), ConnectionError("refused"), "Redis 8.0.1")
    clock = wait(subject)

    assert (subject.product, subject.version, subject.ready_s) == ("Redis", "8.0.1", clock.now_s)
    assert len(clock.slept_s) == 2
    assert clock.slept_s[0] < clock.slept_s[1]


def test_the_message_at_the_deadline_is_complete() -> None:
    """It has all that is needed to find the cause, and no password."""
    with pytest.raises(NotReady) as failed:
        wait(Subject(ConnectionError("refused")), limit_s=20)

    text = str(failed.value)
    assert "redis is not ready: gave up after 20.0 s and" in text
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


def test_a_final_error_ends_the_wait_at_once() -> None:
    """It is reported after one attempt, with advice."""
    subject = Subject(redis.exceptions.AuthenticationError("invalid password"))

    with pytest.raises(NotReady, match=r"final error after 0\.0 s and 1 attempt\n(.*\n)*.*check user and password"):
        wait(subject)

    assert len(subject.limits_s) == 1


def test_dead_before_the_first_attempt() -> None:
    """A process that has exited is not probed."""
    subject = Subject("Redis 8.0.1", runs_for=0)

    with pytest.raises(NotReady, match=r"it has exited after 0\.0 s and 0 attempts"):
        wait(subject)

    assert subject.limits_s == []


def test_an_exit_while_waiting_ends_the_wait_with_the_exit_code() -> None:
    """Each attempt checks whether the process runs."""
    subject = Subject(ConnectionError("refused"), runs_for=2)

    with pytest.raises(NotReady, match="exited with code 3"):
        wait(subject)

    assert len(subject.limits_s) == 2


def test_delays_are_jittered_and_limited() -> None:
    """Each delay is drawn between 0 and an upper limit that grows to 0.5 s."""
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
    """An attempt gets at most the remaining time."""
    subject = Subject(OSError("no"))

    with pytest.raises(NotReady):
        wait(subject, limit_s=1)

    assert max(subject.limits_s) <= 1
    assert min(subject.limits_s) < 0.5
