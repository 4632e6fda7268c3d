"""Interruptions of a pytest process, by Ctrl-C or by the command that started it."""

import os
import signal
import sys
import threading
from collections.abc import Callable

INTERRUPT_AGAIN_S = 0.01


class Interruptions:
    """Takes care that an interruption ends the run, and that none disturbs its end."""

    def __init__(self, has_ended: Callable[[], bool], *, controlled: bool) -> None:
        """`controlled`: a command reads the outcome, reports the end, and interrupts by SIGTERM as well."""
        self._has_ended = has_ended
        self._controlled = controlled
        self._report_unraisable = sys.unraisablehook

    def begin(self) -> None:
        self._report_unraisable = sys.unraisablehook
        sys.unraisablehook = self._on_unraisable  # pytest, whose own hook this replaces, resets it at the end
        if self._controlled:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
            signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # which the caller has blocked until now

    def ignore(self) -> None:
        """Ignore interruptions from now on if the caller reports the end."""
        if self._controlled:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)

    def _on_unraisable(self, lost: "sys.UnraisableHookArgs") -> None:
        """Interrupt again, a moment later, if a destructor or a callback has swallowed an interruption."""
        if isinstance(lost.exc_value, KeyboardInterrupt):
            threading.Timer(INTERRUPT_AGAIN_S, os.kill, [os.getpid(), signal.SIGINT]).start()
        elif not self._has_ended():  # else a fixture that was not torn down has left it
            self._report_unraisable(lost)
