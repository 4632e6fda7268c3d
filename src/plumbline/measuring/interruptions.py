"""Interruptions of a pytest process by Ctrl-C, or by the command that started it."""

import os
import signal
import sys
import threading
from collections.abc import Callable

INTERRUPT_AGAIN_S = 0.01


class Interruptions:
    """Makes sure that an interruption ends the run, and that further ones do not disturb its end."""

    def __init__(self, has_ended: Callable[[], bool], *, controlled: bool) -> None:
        """`controlled` means that a command started this process, reports its end, and may send SIGTERM."""
        self._has_ended = has_ended
        self._controlled = controlled
        self._report_unraisable = sys.unraisablehook

    def begin(self) -> None:
        self._report_unraisable = sys.unraisablehook
        sys.unraisablehook = self._on_unraisable  # pytest restores the original at its end
        if self._controlled:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs of a shell
            signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked by the command until now

    def ignore(self) -> None:
        """Ignore further interruptions if a command reports the end."""
        if self._controlled:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)

    def _on_unraisable(self, lost: "sys.UnraisableHookArgs") -> None:
        """Interrupt again if a destructor or a callback has swallowed an interruption."""
        if isinstance(lost.exc_value, KeyboardInterrupt):
            threading.Timer(INTERRUPT_AGAIN_S, os.kill, [os.getpid(), signal.SIGINT]).start()
        elif not self._has_ended():  # after the end, fixtures that were not torn down cause such errors
            self._report_unraisable(lost)
