"""Advice if the output of the code under test shows that it expects another server than that of the run."""

import re
from collections.abc import Iterator

from plumbline.services.base import Service
from plumbline.services.docker import DockerPostgres
from plumbline.services.errors import NotReady

# Messages of the servers, which clients repeat.
EXTENSION_MISSING = re.compile(r'extension "([^"]+)" is not available')
DATABASE_MISSING = re.compile(r'database "([^"]+)" does not exist')
USER_REFUSED = re.compile(r'password authentication failed for user "([^"]+)"')
PASSWORD_MISSING = re.compile(r"NOAUTH|Authentication required\.|HELLO must be called with the client already auth")
EXAMPLES = {"vector": ", such as pgvector/pgvector:pg18"}


def with_advice(error: NotReady, redis: Service | None, postgres: Service | None) -> NotReady:
    """Return the error with advice about servers that this run has started."""
    advice = [*_on_redis(error.output, redis), *_on_postgres(error.output, postgres)]
    return NotReady("\n".join([str(error), *(f"  also        {line}" for line in advice)]), error.output)


def _on_redis(output: str, redis: Service | None) -> Iterator[str]:
    if redis and redis.own and redis.address.password and PASSWORD_MISSING.search(output):
        yield "it connects to Redis without a password: set password = false of [redis] in settings.toml"


def _on_postgres(output: str, postgres: Service | None) -> Iterator[str]:
    if postgres is None or not postgres.own:
        return
    if found := EXTENSION_MISSING.search(output):
        lacks, step = "the embedded PostgreSQL", "set PERF_SERVICES=docker and an image that has it"
        if isinstance(postgres, DockerPostgres):
            lacks, step = f"the image {postgres.image}", "set image of [postgres] in settings.toml to one that has it"
        yield f"{lacks} has no extension {found[1]}: {step}{EXAMPLES.get(found[1], '')}"
    if found := DATABASE_MISSING.search(output):
        yield f'it expects a database of a fixed name: set database = "{found[1]}" of [postgres] in settings.toml'
    if found := USER_REFUSED.search(output):
        user = f'user = "{found[1]}" and ' if found[1] != postgres.address.user else ""
        yield f"it has a user or a password of its own: set {user}password of [postgres] in settings.toml"
