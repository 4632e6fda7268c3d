"""Redis commands by name."""

from collections import Counter as Tally
from typing import TYPE_CHECKING

from plumbline.counting.families import COMMANDS, CannotCount, Numbers
from plumbline.measuring.connections import KEPT_CONNECTION_NAME
from plumbline.services.base import Service

if TYPE_CHECKING:  # an optional package
    import redis

ANSWER_LIMIT_S = 1.0


class RedisCommands:
    """Counts commands by INFO of a Redis of this run, including those of scripts and refused ones."""

    def __init__(self, service: Service) -> None:
        self.families = [COMMANDS]
        self._service = service
        self._client: redis.Redis | None = None
        self._errors: tuple[type[Exception], ...] = (OSError,)
        self._before: Tally[str] = Tally()
        self._rounds: list[Numbers] = []

    def begin(self) -> None:
        if self._client is None or self._client.get_connection_kwargs()["port"] != self._service.address.port:
            self._connect()
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

    def _connect(self) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._errors = (redis.RedisError, OSError)
        self._client = redis.Redis.from_url(
            self._service.address.url,
            socket_timeout=ANSWER_LIMIT_S,
            client_name=KEPT_CONNECTION_NAME,
            retry=Retry(NoBackoff(), 0),
        )
        self._calls()  # connects

    def _calls(self) -> "Tally[str]":
        assert self._client is not None
        try:
            found: dict[str, dict[str, int]] = self._client.info("commandstats")
        except self._errors as error:
            raise CannotCount(f"some Redis commands weren't counted: {error}") from None
        return Tally(
            {
                name.removeprefix("cmdstat_").replace("|", " ").upper(): one["calls"] + one.get("rejected_calls", 0)
                for name, one in found.items()
            }
        )
