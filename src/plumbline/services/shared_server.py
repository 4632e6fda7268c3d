"""A server that the coordinator of a paired comparison has started for both sides."""

from plumbline.services.address import Address
from plumbline.services.base import Service


class SharedServer(Service):
    """Not this worker's to start, pin or stop. Its own database in it is."""

    own = False

    def __init__(self, name: str, address: Address, key_prefix: str) -> None:
        super().__init__(name, "shared", "started for both sides", address)
        self.key_prefix = key_prefix

    def wait_ready(self, limit_s: float) -> None:
        """Return at once: the coordinator has waited."""
