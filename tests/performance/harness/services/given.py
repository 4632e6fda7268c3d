"""A server that the coordinator of a paired comparison has started for both arms."""

from .address import Address
from .base import Service


class Given(Service):
    """Not ours to start, pin or stop; this arm's own database in it is."""

    own = False

    def __init__(self, name: str, address: Address, key_prefix: str) -> None:
        super().__init__(name, "given", "started for both arms", address)
        self.key_prefix = key_prefix

    def wait_ready(self, limit_s: float) -> None:
        """The coordinator has waited."""
