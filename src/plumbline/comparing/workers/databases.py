"""A database of its own for each worker: in PostgreSQL by name, in Redis by number.

While one pair is measured, the workers of the last two pairs end and those of the next one start. Each side therefore
uses the databases of several rounds in turn, and one more that is prepared once and copied for each round.
"""

from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.services import Address, Services
from plumbline.services.clients import redis_client, redis_errors, run_sql, sql_errors
from plumbline.services.readiness import describe

SIDES = ("base", "head")
ROUNDS = 4
# Databases of Redis by side: those of the rounds, then the prepared one. Nothing uses 0, the default.
REDIS_NUMBERS = {"base": (1, 3, 5, 7, 9), "head": (2, 4, 6, 8, 10)}
REDIS_DATABASES = 11
LIMIT_S = 30.0


class Databases:
    """The databases of all rounds; without a server there is nothing to do. Methods raise ComparisonInvalid."""

    def __init__(self, services: Services) -> None:
        """`services`: those that both sides share, ready."""
        self._redis = services.redis.address if services.redis else None
        self._postgres = services.postgres.address if services.postgres else None
        self._prepared = False

    def addresses(self, side: str, round_: int, *, prepared: bool = False) -> dict[str, Address]:
        """Return where a worker finds its databases, by server; `prepared`: those that are copied in later rounds."""
        found = {}
        if self._redis is not None:
            number = REDIS_NUMBERS[side][-1 if prepared else round_]
            found["redis"] = self._redis.with_database(str(number))
        if self._postgres is not None:
            found["postgres"] = self._postgres.with_database(_name(side, round_))
        return found

    def make(self, round_: int) -> None:
        """Make the databases of a round anew: copies of the prepared ones, empty before there are such."""
        for side in SIDES:
            template = f'TEMPLATE "{_name(side)}"' if self._prepared else ""
            self._sql(f'DROP DATABASE IF EXISTS "{_name(side, round_)}" WITH (FORCE)')
            self._sql(f'CREATE DATABASE "{_name(side, round_)}" {template}')
        for numbers in REDIS_NUMBERS.values():
            self._copy_redis(numbers[-1], numbers[round_])

    def keep_prepared(self, round_: int) -> None:
        """Take what is in the databases of this round for the prepared ones."""
        for side in SIDES:
            self._sql(f'ALTER DATABASE "{_name(side, round_)}" RENAME TO "{_name(side)}"')
        self._prepared = True

    def _copy_redis(self, prepared: int, number: int) -> None:
        if self._redis is None:
            return
        source, target = (self._redis.with_database(str(one)).url for one in (prepared, number))
        try:
            with redis_client(target, LIMIT_S) as client:
                client.flushdb()
            with redis_client(source, LIMIT_S) as client:
                pipeline = client.pipeline(transaction=False)
                for key in client.scan_iter(count=1000):
                    pipeline.copy(key, key, destination_db=number, replace=True)
                pipeline.execute()
        except redis_errors() as error:
            raise ComparisonInvalid(f"database {number} of Redis can't be filled: {describe(error)}") from None

    def _sql(self, statement: str) -> None:
        if self._postgres is None:
            return
        try:
            run_sql(self._postgres.url, statement, limit_s=LIMIT_S)
        except sql_errors() as error:
            raise ComparisonInvalid(f"{statement} failed: {describe(error)}") from None


def _name(side: str, round_: int | None = None) -> str:
    return f"perf_{side}_{'prepared' if round_ is None else round_}"
