"""Waiting until a service does real work, and the message if it does not."""

import random
import time
from collections.abc import Callable
from typing import Protocol

from plumbline.services.address import Address

FIRST_DELAY_S = 0.004
LONGEST_DELAY_S = 0.5
DELAY_GROWTH = 1.5
ATTEMPT_LIMIT_S = 3.0


class NotReady(Exception):
    """A service that the run needs is not ready. str() is the whole report, without passwords."""


class Unavailable(Exception):
    """A backend is not to be had on this machine. str() is the reason; `advice` is what to do next."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


class Subject(Protocol):
    """The part of a service that waiting for it needs; `plumbline.services.base.Service` says what each is."""

    name: str
    backend: str
    why: str
    address: Address

    def probe(self, limit_s: float) -> str: ...
    def advice(self, error: BaseException) -> str: ...
    def advice_at_limit(self) -> str: ...
    def running(self) -> bool: ...
    def state(self) -> str: ...
    def log_tail(self, lines: int = 20) -> str: ...


def wait_until_ready(
    subject: Subject,
    limit_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> str:
    """Probe until the service does real work and return its product and version.

    Exponential backoff with full jitter under a monotonic deadline. Raises NotReady at the deadline, at a final error,
    and as soon as the process or container has exited. Blocks: from a coroutine, call it in a thread.
    """
    started_s = clock()
    longest_delay_s = FIRST_DELAY_S
    attempts = 0
    last_error: BaseException | None = None
    while True:
        left_s = limit_s - (clock() - started_s)
        if not subject.running():
            reason, advice = "it has exited", "read its last output above; a wrong server option is the usual cause"
            break
        if left_s <= 0:
            reason, advice = "the time is up", subject.advice_at_limit()
            break
        attempts += 1
        try:
            return subject.probe(min(left_s, ATTEMPT_LIMIT_S))
        except Exception as error:
            last_error = error
            if advice := subject.advice(error):
                reason = "the error is final"
                break
        left_s = limit_s - (clock() - started_s)
        sleep(min(uniform(0, longest_delay_s), max(left_s, 0)))
        longest_delay_s = min(longest_delay_s * DELAY_GROWTH, LONGEST_DELAY_S)
    tried = f"after {clock() - started_s:.1f} s and {attempts} attempt{'' if attempts == 1 else 's'}"
    raise not_ready(subject, f"{reason} {tried}", last_error, advice)


def not_ready(subject: Subject, headline: str, error: BaseException | None, advice: str) -> NotReady:
    """Return the whole message about one service, without passwords. `headline` and `advice` hold none."""
    log = subject.address.redact(subject.log_tail()).splitlines()
    lines = [
        f"{subject.name} is not ready: {headline}",
        f"  backend     {subject.backend}" + (f" ({subject.why})" if subject.why else ""),
        f"  address     {subject.address.shown}",
        f"  last error  {subject.address.redact(describe(error)) if error else 'none'}",
        f"  state       {subject.state()}",
        "  last output" + ("" if log else " none"),
        *(f"    | {line}" for line in log),
        f"  next        {advice}",
    ]
    return NotReady("\n".join(lines))


def describe(error: BaseException) -> str:
    """Return the type and the text of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
