"""Code under test that connects to servers outside the run, and `.env` files that name them."""

import contextlib
import json
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.request import urlopen

import pytest

from plumbline.services.address import Address
from plumbline.services.embedded import find_postgres
from plumbline.services.errors import NotReady
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
from tests.unit.services.test_embedded import query, server, started

CONNECT = """
import asyncio, asyncpg, sys
async def main():
    connection = await asyncpg.connect(sys.argv[1] if len(sys.argv) > 1 else URL)
    await connection.execute("CREATE TABLE IF NOT EXISTS item (n int)")
    await connection.execute("INSERT INTO item SELECT generate_series(1, 1000)")
    await connection.close()
"""
RUN = "asyncio.run(main())\n"
READ_FILE = 'URL = open(".env").read().strip().partition("=")[2]\n'


@pytest.fixture(scope="module")
def theirs() -> Iterator[Services]:
    """The developer's own Redis and PostgreSQL servers."""
    with started("embedded") as services:
        yield services


@pytest.fixture(scope="module")
def ours() -> Iterator[Services]:
    """The servers of the run."""
    with started("embedded") as services:
        yield services


Make = Callable[..., Services]


@pytest.fixture
def make(ours: Services, tmp_path: Path) -> Iterator[Make]:
    """Create the services of a project in `tmp_path` with the run's servers."""
    made: list[Services] = []
    shared = {"redis": server(ours.redis).address, "postgres": server(ours.postgres).address}

    def make(text: str = "", prepare: str | Sequence[str] = "", **environ: str) -> Services:
        if isinstance(prepare, str) and prepare:
            (tmp_path / "prepare.py").write_text(prepare)
            prepare = ["python", "prepare.py"]
        path = tmp_path / "settings.toml"
        path.write_text(f"prepare = {json.dumps([*prepare])}\n{text}")
        made.append(Services(load_settings(path, environ), tmp_path, environ=environ, shared=shared))
        made[-1].begin()
        return made[-1]

    yield make
    for services in made:
        services.stop()


def refusal(services: Services) -> str:
    with pytest.raises(NotReady) as caught:
        services.start_application()
    return str(caught.value)


def postgres(services: Services) -> Address:
    return server(services.postgres).address


def tables(services: Services) -> object:
    return query(postgres(services), "SELECT count(*) FROM pg_class WHERE relname = 'item'")


def test_a_database_that_a_file_names_is_refused_before_anything_is_written(
    make: Make, theirs: Services, tmp_path: Path
) -> None:
    url = postgres(theirs)
    (tmp_path / ".env").write_text(f"SHOP_DB_URL={url.url}\n")

    message = refusal(make(prepare=READ_FILE + CONNECT + RUN))

    assert message.startswith("prepare connects to a PostgreSQL server that does not belong to this run")
    assert f"server      localhost:{url.port}" in message
    assert "named by    SHOP_DB_URL in .env" in message
    assert 'add SHOP_DB_URL = "{postgres.url}" to [env]' in message
    assert f'also_allowed = ["localhost:{url.port}"]' in message
    assert url.password not in message
    assert tables(theirs) == 0


# Without `sitecustomize`, the kernel's table of sockets shows the connections, as for programs in other languages.
@pytest.mark.parametrize("isolated", [False, True], ids=["within", "from outside"])
def test_a_prepare_that_ignores_the_refusal_is_ended(
    make: Make, theirs: Services, tmp_path: Path, isolated: bool
) -> None:
    """However it found the server, and whatever it does after the refused connection."""
    (tmp_path / "forever.py").write_text(
        "import socket, sys, time\n"
        "try:\n"
        "    connection = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "except ConnectionRefusedError as error:\n"
        "    print(error)\n"
        "time.sleep(600)\n"
    )
    port = server(theirs.redis).address.port

    message = refusal(make(prepare=["python", *["-I"] * isolated, "forever.py", str(port)]))

    assert f"connects to a Redis server that does not belong to this run\n  server      localhost:{port}" in message
    assert "named by    no .env file: perhaps a default in the code" in message


@pytest.mark.parametrize("isolated", [False, True], ids=["within", "from outside"])
def test_a_unix_socket_of_postgres_is_refused(make: Make, tmp_path: Path, isolated: bool) -> None:
    """libpq uses one by default if it is given only the name of a database."""
    path = tmp_path / ".s.PGSQL.5999"
    (tmp_path / "local.py").write_text(
        "import socket, time\n"
        f"connection = socket.socket(socket.AF_UNIX); connection.connect({str(path)!r}); time.sleep(600)\n"
    )
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        accepted: list[tuple[socket.socket, object]] = []

        def accept() -> None:
            with contextlib.suppress(OSError):  # nobody connects if `sitecustomize` refuses it
                accepted.append(listening.accept())

        threading.Thread(target=accept, daemon=True).start()

        message = refusal(make(prepare=["python", *["-I"] * isolated, "local.py"]))

        for connection, _ in accepted:
            connection.close()
        assert f"server      {path}" in message


def test_allowed_servers_and_other_kinds_are_ignored(make: Make, theirs: Services, tmp_path: Path) -> None:
    """So is a server that does not run: an application may work without a cache."""
    with socket.create_server(("127.0.0.1", 0)) as mail, socket.create_server(("127.0.0.1", 0)) as none:
        closed = none.getsockname()[1]
        none.close()

        def serve() -> None:
            for _ in range(2):
                with mail.accept()[0] as connection:
                    connection.sendall(b"220 ready\r\n")

        threading.Thread(target=serve, daemon=True).start()
        allowed = server(theirs.redis).address.port
        (tmp_path / ".env").write_text(f"CACHE=redis://localhost:{closed}/0\n")
        code = f"""
import os, socket, urllib.parse
for port in ({allowed}, {mail.getsockname()[1]}, urllib.parse.urlsplit(os.environ["DSN"]).port):
    socket.create_connection(("localhost", port)).close()
assert socket.socket().connect_ex(("127.0.0.1", {closed}))
"""
        text = f'also_allowed = ["localhost:{allowed}"]\n[env]\nDSN = "{{postgres.url}}"\n'

        make(text, prepare=code).start_application()


def test_a_server_that_the_run_itself_has_started_may_be_used(make: Make, tmp_path: Path) -> None:
    """As a connection pooler in its own process."""
    (tmp_path / "pooler.py").write_text(
        "import socket\n"
        "with socket.create_server(('127.0.0.1', 0)) as listening:\n"
        "    print(listening.getsockname()[1], flush=True)\n"
        "    while True:\n"
        "        connection, _ = listening.accept()\n"
        "        connection.sendall(b'+PONG')\n"
    )
    code = """
import os, redis, socket, subprocess, sys
with subprocess.Popen([sys.executable, "pooler.py"], stdout=subprocess.PIPE) as pooler:
    socket.create_connection(("127.0.0.1", int(pooler.stdout.readline()))).close()
    redis.Redis.from_url(os.environ["CACHE"]).ping()
    pooler.kill()
"""

    make('[env]\nCACHE = "{redis.url}"\n', prepare=code).start_application()


def test_a_prepare_without_a_connection_to_the_run_s_servers_fails(make: Make, ours: Services) -> None:
    """It may have written to a file, or to an unknown server."""
    message = refusal(make('[env]\nDSN = "{postgres.url}"\n', prepare="print('migrated')"))

    assert message.startswith("prepare did not connect to the PostgreSQL of this run")
    assert f"server      postgres at 127.0.0.1:{postgres(ours).port}" in message
    assert "given by    DSN of [env]" in message
    assert "| migrated" in message


def test_a_short_connection_of_another_program_counts(make: Make, ours: Services) -> None:
    """PostgreSQL counts it even if nothing else sees it."""
    code = CONNECT + RUN
    ours_url = postgres(ours).url
    services = make(prepare=["python", "-I", "-c", code, ours_url])

    services.start_application()

    assert tables(ours) == 1


PSQL = str(find_postgres() / "psql")


@pytest.mark.parametrize("script", ["", "schema.sh", "-c"])
def test_psql_connects_to_the_run_s_own_server(make: Make, ours: Services, tmp_path: Path, script: str) -> None:
    """No variable names it."""
    table = f"made_{script.strip('-').partition('.')[0]}"
    command = [PSQL, "-c", f"CREATE TABLE {table} (n int)"]
    (tmp_path / "schema.sh").write_text(shlex.join(command))
    shown = {"": command, "schema.sh": ["bash", "schema.sh"], "-c": ["sh", "-c", shlex.join(command)]}

    make('[env]\nDSN = "{postgres.url}"\n', prepare=shown[script]).start_application()

    assert query(postgres(ours), f"TABLE {table}") is None


@pytest.mark.parametrize("by_file", [False, True])
def test_a_program_that_cannot_be_refused_does_not_start(
    make: Make, theirs: Services, tmp_path: Path, by_file: bool
) -> None:
    """Its command or a `.env` file names another server."""
    if by_file:
        (tmp_path / ".env").write_text(f"SHOP_DB_URL={postgres(theirs).url}\n")
    name = '"$(sed s/SHOP_DB_URL=// .env)"' if by_file else postgres(theirs).url
    (tmp_path / "tool").write_text(f"#!/bin/sh\n{PSQL} {name} -c 'CREATE TABLE item (n int)'\n")
    (tmp_path / "tool").chmod(0o755)
    command = [str(tmp_path / "tool")] if by_file else [PSQL, name, "-c", "CREATE TABLE item (n int)"]

    message = refusal(make(prepare=command))

    assert message.startswith("prepare connects to a PostgreSQL server that does not belong to this run")
    assert postgres(theirs).password not in message
    assert tables(theirs) == 0


@pytest.mark.parametrize("env", ["", 'DSN = "{postgres.url}"\n'])
def test_redis_alone_may_be_prepared(make: Make, env: str) -> None:
    """A connection to one of the servers in [env] is enough."""
    code = "import os, redis; redis.Redis.from_url(os.environ['CACHE']).set('seeded', 1)"

    make(f'[env]\nCACHE = "{{redis.url}}"\n{env}', prepare=code).start_application()


APPLICATION = """
import asyncio, os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    try:
        if scope["path"] == "/cached":
            await asyncio.open_connection("127.0.0.1", int(os.environ["CACHE_PORT"]))
    except OSError:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""


# uvloop bypasses Python's sockets.
ON_ASYNCIO = '["python", "-m", "uvicorn", "served:app", "--loop", "asyncio", "--host", "{host}", "--port", "{port}"]'


def test_an_application_that_connects_at_its_first_request_is_seen(
    make: Make, theirs: Services, tmp_path: Path
) -> None:
    port = server(theirs.redis).address.port
    (tmp_path / "served.py").write_text(APPLICATION)
    (tmp_path / ".env").write_text(f"CACHE_PORT={port}\n")
    services = make(f'[app]\ncommand = {ON_ASYNCIO}\nenv = {{ CACHE_PORT = "{port}" }}\n')
    services.start_application()
    services.check_connections()

    urlopen(f"{server(services.app).address.url}/cached").close()  # noqa: S310

    with pytest.raises(NotReady, match="app connects to a Redis") as caught:
        services.check_connections()
    assert 'CACHE_PORT = "{redis.port}"' in str(caught.value)


SHORT = """
import pathlib, socket, time
while True:
    time.sleep(0.05)
    if pathlib.Path("go").exists():
        with socket.create_connection(("127.0.0.1", {port})):
            time.sleep(0.005)
"""


def test_short_connections_are_seen_while_nothing_is_timed(make: Make, theirs: Services, tmp_path: Path) -> None:
    """As those of libpq, uvloop and other programs, which bypass Python's sockets."""
    (tmp_path / "short.py").write_text(SHORT.format(port=server(theirs.redis).address.port))
    services = make('[processes.worker]\ncommand = ["python", "-I", "short.py"]\n')
    services.start_application()
    (tmp_path / "go").touch()

    with services.watched():
        time.sleep(1)
    (tmp_path / "go").unlink()
    time.sleep(0.2)

    with pytest.raises(NotReady, match="worker connects to a Redis"):
        services.check_connections()


def test_a_failed_start_after_a_refused_connection_names_the_cause(
    make: Make, theirs: Services, tmp_path: Path
) -> None:
    port = postgres(theirs).port
    (tmp_path / "served.py").write_text(f"import socket; socket.create_connection(('localhost', {port}))\n")

    message = refusal(make('[app]\nasgi = "served:app"\n'))

    assert message.startswith("app connects to a PostgreSQL")


@pytest.mark.parametrize(
    ("load", "value"),
    [
        ("import dotenv; dotenv.load_dotenv(override=True)", "ours"),
        ("os.environ.update(line.strip().split('=', 1) for line in open('.env'))", "ours"),
        ("os.environ['DSN'] = os.environ['DSN'].replace('ou', 'you')", "yours"),
        ("os.environ['OTHER'] = 'set'", "ours"),
        ("del os.environ['DSN']; os.environ['DSN'] = 'ours, again'", "ours, again"),
    ],
    ids=["dotenv", "by hand", "derived", "another", "set again"],
)
def test_env_has_precedence_over_a_file(make: Make, tmp_path: Path, load: str, value: str) -> None:
    """Even if the file is loaded with override. The code itself may still change the variable."""
    (tmp_path / ".env").write_text("DSN=theirs\nMORE=1\n")
    code = f"import os, redis\n{load}\nopen('dsn', 'w').write(os.environ['DSN'])\n"
    code += "redis.Redis.from_url(os.environ['CACHE']).ping()"

    make('[env]\nDSN = "ours"\nCACHE = "{redis.url}"\n', prepare=code).start_application()

    assert (tmp_path / "dsn").read_text() == value


def test_env_has_precedence_over_a_program_that_loads_a_file(make: Make, tmp_path: Path) -> None:
    """As `dotenv run -- …` does."""
    (tmp_path / ".env").write_text("DSN=theirs\n")
    code = (
        "import os, redis; open('dsn', 'w').write(os.environ['DSN']); redis.Redis.from_url(os.environ['CACHE']).ping()"
    )
    run = ["env", "DSN=theirs", "python", "-c", code]

    make('[env]\nDSN = "ours"\nCACHE = "{redis.url}"\n', prepare=run).start_application()

    assert (tmp_path / "dsn").read_text() == "ours"


def test_the_user_s_own_sitecustomize_is_still_imported(make: Make, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['BY_USER'] = '1'")
    code = "import os, redis; os.environ['BY_USER']; redis.Redis.from_url(os.environ['CACHE']).ping()"

    make('[env]\nCACHE = "{redis.url}"\n', prepare=code).start_application()
