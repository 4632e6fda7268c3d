"""Advice for code that expects other servers, from the errors of real clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from plumbline.services.errors import NotReady
from plumbline.services.services import Services
from plumbline.settings_file import load_settings

SETTINGS = """
backend = "embedded"
prepare = ["python", "prepare.py"]

[env]
DB_HOST = "{postgres.host}"
DB_PORT = "{postgres.port}"
OWN = "{postgres.url}"
REDIS_PORT = "{redis.port}"
"""

ASYNCPG = """
import asyncio, os, asyncpg

async def main():
    place = {"host": os.environ["DB_HOST"], "port": os.environ["DB_PORT"]}
    connection = await asyncpg.connect(%s)
    await connection.execute("CREATE EXTENSION postgis")

asyncio.run(main())
"""

PSYCOPG = """
import os, psycopg

psycopg.connect(os.environ["OWN"], dbname="shop")
"""

REDIS = """
import os, redis
from redis.backoff import NoBackoff
from redis.retry import Retry

redis.Redis(retry=Retry(NoBackoff(), 0), port=int(os.environ["REDIS_PORT"])).ping()
"""


@pytest.fixture(scope="module")
def servers(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services whose `prepare` can be changed."""
    assert cache_home.is_dir()
    root = tmp_path_factory.mktemp("advice")
    (root / "settings.toml").write_text(SETTINGS)
    services = Services(load_settings(root / "settings.toml", {}), root, environ={})
    services.begin()
    services.wait_ready()
    yield services
    services.stop()


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (ASYNCPG % "os.environ['OWN'], database='shop'", 'set database = "shop" of [postgres] in settings.toml'),
        (PSYCOPG, 'set database = "shop" of [postgres] in settings.toml'),
        (ASYNCPG % "user='app', password='x', **place", 'set user = "app" and password of [postgres]'),
        (ASYNCPG % "user='perf', password='x', **place", "of its own: set password of [postgres]"),
        (ASYNCPG % "os.environ['OWN']", "no extension postgis: set PERF_SERVICES=docker and an image that has it"),
        (REDIS, "set password = false of [redis] in settings.toml"),
        (REDIS.replace(" port=", " protocol=2, port="), "set password = false of [redis] in settings.toml"),
    ],
    ids=["database", "psycopg", "user", "password", "extension", "redis", "resp2"],
)
def test_the_setting_to_change_is_named(servers: Services, code: str, advice: str) -> None:
    """The advice is the last line of the error, after the output of `prepare`."""
    (servers._root / "prepare.py").write_text(code)
    servers._prepare, servers._application_begun = True, False
    with pytest.raises(NotReady) as caught:
        servers.start_application()
    last = str(caught.value).splitlines()[-1]
    assert last.startswith("  also        ")
    assert advice in last
