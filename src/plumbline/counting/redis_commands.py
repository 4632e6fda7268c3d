"""Redis commands by name."""

from collections import Counter as Tally
from typing import TYPE_CHECKING

from plumbline.counting.families import COMMANDS, CannotCount, Numbers
from plumbline.measuring.connections import KEPT_CONNECTION_NAME
from plumbline.services.base import Service
from plumbline.services.clients import client_errors, redis_client

if TYPE_CHECKING:  # an optional package
    import redis

ANSWER_LIMIT_S = 1.0


class RedisCommands:
    """Counts commands by INFO of a Redis of this run, including those of scripts and refused ones."""

    def __init__(self, service: Service) -> None:
        self.families = [COMMANDS]
        self._service = service
        self._client: redis.Redis | None = None
        self._before: Tally[str] = Tally()
        self._rounds: list[Numbers] = []

    def begin(self) -> None:
        address = self._service.address
        if self._client is None or self._client.get_connection_kwargs()["port"] != address.port:
            self._client = redis_client(address.url, ANSWER_LIMIT_S, client_name=KEPT_CONNECTION_NAME)
            self._calls()  # connects
        self._rounds = []

    def enter(self) -> None:
        self._before = self._calls()

    def leave(self) -> None:
        after = self._calls()
        after.subtract(self._before)
        after["INFO"] -= 1  # the one of `enter`
        self._rounds.append({f"redis.command {name}": calls for name, calls in after.items() if calls})

    def end(self) -> list[Numbers]:
        return self._rounds

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _calls(self) -> "Tally[str]":
        assert self._client is not None
        try:
            found: dict[str, dict[str, int]] = self._client.info("commandstats")
        except client_errors("redis") as error:
            raise CannotCount(f"some Redis commands weren't counted: {error}") from None
        names = {name: name.removeprefix("cmdstat_").replace("|", " ").upper() for name in found}
        return Tally({names[name]: one["calls"] + one.get("rejected_calls", 0) for name, one in found.items()})
