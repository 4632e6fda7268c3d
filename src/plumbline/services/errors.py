"""Errors of the services."""

from plumbline.processes import printable


class ServiceError(Exception):
    """The services cannot be used in this way: wrong usage, exit code 2."""


class NotReady(Exception):
    """A service that the run needs is not ready. str() is the whole report, without passwords.

    `output` is the last output as it is: to decide by, never to be shown.
    """

    def __init__(self, report: str, output: str = "") -> None:
        super().__init__(report)
        self.output = output


class Unavailable(Exception):
    """A backend is not to be had on this machine. str() is the reason; `advice` is what to do next."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


def describe(error: BaseException) -> str:
    """Return the type and the text of an error in one line."""
    return f"{type(error).__name__}: {' '.join(printable(str(error)).split())}".rstrip(": ")
