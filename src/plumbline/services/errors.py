"""The errors of services."""

from plumbline.processes import printable


class ServiceError(Exception):
    """Wrong usage of the services: exit code 2."""


class NotReady(Exception):
    """A service did not become ready, or stopped working.

    The message names the service, its address without the password, the attempts, the last error, the last output, and
    what to do next.
    """

    def __init__(self, report: str, output: str = "") -> None:
        super().__init__(report)
        self.output = output  # the service's last output, which may hold passwords: do not print it


class Unavailable(Exception):
    """A backend is not available on this machine. str() is the reason; `advice` is what to do next."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


def describe(error: BaseException) -> str:
    """Return the type and the message of an error on one line."""
    return f"{type(error).__name__}: {' '.join(printable(str(error)).split())}".rstrip(": ")
