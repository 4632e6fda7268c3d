"""A server of a comparison, as its workers see it."""

from collections.abc import Callable

from plumbline.services.address import Address
from plumbline.services.base import Service


class SharedServer(Service):
    """A server that the coordinator of a comparison has started. Each side has a database of its own."""

    def __init__(self, name: str, address: Address, log_of: Callable[[str, int], str] | None) -> None:
        """`log_of` returns the last lines of a server's log, by its name and their number."""
        super().__init__(name, "shared", "started for both sides", address)
        self._log_of = log_of

    def can_be_counted(self) -> bool:
        return self._log_of is not None

    def raw_log(self, lines: int) -> str:
        return self._log_of(self.name, lines) if self._log_of else ""
