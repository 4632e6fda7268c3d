"""Real servers in containers, and Docker engines that are missing, hang, or lack an image."""

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from plumbline.processes import host_name, identity, pinned_core
from plumbline.services import docker
from plumbline.services.address import Address
from plumbline.services.docker_engine import OWNER_LABEL, Engine
from plumbline.services.errors import NotReady, Unavailable
from plumbline.services.overview import service_lines
from plumbline.services.reaper import LABEL
from plumbline.services.services import Services
from plumbline.settings import Settings
from plumbline.settings_file import load_settings
from tests.support.fixtures import MakeServices
from tests.unit.services.test_embedded import query, server, started

DOCKER = 'backend = "docker"\n'
VECTORS = "pgvector/pgvector:pg17"
MISSING = "plumbline.invalid/no-such-image:1"


@pytest.fixture(scope="module")
def client(cache_home: Path) -> Iterator[Any]:
    """A client of the engine. Skips the test if no engine answers or the images are missing."""
    assert cache_home.is_dir()
    engine = Engine()
    try:
        for image in (Settings().redis.image, Settings().postgres.image):
            engine.require_image(image)
    except Unavailable as error:
        pytest.skip(str(error))
    yield engine.client()
    engine.close()


def containers(client: Any, services: Services) -> list[Any]:
    found: list[Any] = client.containers.list(all=True, filters={"label": f"{LABEL}={services._run.id}"})
    return found


@pytest.fixture(scope="module")
def running(client: Any) -> Iterator[Services]:
    """Redis and PostgreSQL, for tests that don't stop them."""
    assert client.ping()
    with started("docker") as services:
        yield services


def test_both_answer_in_labelled_containers(client: Any, running: Services) -> None:
    """Real servers with passwords. Their containers have the label of the run."""
    labelled = containers(client, running)

    assert {container.attrs["Config"]["Image"] for container in labelled} == {
        Settings().redis.image,
        Settings().postgres.image,
    }
    assert server(running.redis).product == "Redis"
    assert server(running.postgres).product == "PostgreSQL"
    assert query(server(running.postgres).address, "SELECT current_database()") == "perf"
    cache = server(running.redis).address
    with (
        redis.Redis(cache.host, cache.port, retry=Retry(NoBackoff(), 0)) as nobody,
        pytest.raises(redis.AuthenticationError),
    ):
        nobody.ping()


def test_no_password_in_arguments(running: Services) -> None:
    """`ps` shows no password, neither on the host nor in the container."""
    for service in running.running():
        assert service.pids()
        for pid in service.pids():
            assert service.address.password not in " ".join(psutil.Process(pid).cmdline())


def test_pin_is_read_back(running: Services) -> None:
    """A running container is pinned to a core, and unpinned again."""
    cores = sorted(os.sched_getaffinity(0))
    service = server(running.postgres)

    service.pin({cores[-1]})
    assert pinned_core(service.pids()) == cores[-1]

    service.pin(cores)
    assert {core for pid in service.pids() for core in os.sched_getaffinity(pid)} == set(cores)


def test_host_reaches_the_container_itself(client: Any, running: Services) -> None:
    """If the engine is on this host, clients connect without a published port."""
    gateways = [str(address.address) for addresses in psutil.net_if_addrs().values() for address in addresses]
    own = {container.attrs["NetworkSettings"]["IPAddress"] for container in containers(client, running)}
    if not any(gateway.startswith(next(iter(own)).rpartition(".")[0]) for gateway in gateways):
        pytest.skip("the engine's network isn't one of this host's")

    assert {service.address.host for service in running.running()} == own


def test_the_published_port_is_used_if_containers_are_unreachable(
    make_services: MakeServices, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with Docker Desktop or a remote engine."""
    assert client.ping()
    monkeypatch.setattr(docker, "_routes_to_containers", lambda _: False)
    services = make_services(DOCKER + 'postgres.backend = "off"\n')
    services.begin()
    services.wait_ready()

    (container,) = containers(client, services)
    published = container.attrs["NetworkSettings"]["Ports"]["6379/tcp"]
    assert server(services.redis).address.port == int(published[0]["HostPort"])
    server(services.redis).restart()
    server(services.redis).wait_ready(10)


def test_server_options(make_services: MakeServices, client: Any) -> None:
    """Options of the settings reach the server in its container. Data are not written to a lasting disk."""
    services = make_services(
        DOCKER + '[redis.config]\nmaxmemory-policy = "allkeys-lru"\n[postgres.config]\nwork_mem = "7MB"\n'
    )
    services.begin()
    services.wait_ready()

    assert query(server(services.postgres).address, "SHOW work_mem") == "7MB"
    with redis.Redis.from_url(server(services.redis).address.url, decode_responses=True) as reader:
        assert reader.config_get("maxmemory-policy")["maxmemory-policy"] == "allkeys-lru"
    services.stop()
    assert containers(client, services) == []


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait at the end of a run."""
    monkeypatch.setattr("plumbline.services.services.STOP_LIMIT_S", 5.0)


@pytest.mark.usefixtures("short_patience")
def test_stop_ends_the_waiting_for_a_server(make_services: MakeServices, client: Any) -> None:
    """A run that ends before its servers are ready does not wait for them."""
    assert client.ping()
    services = make_services(DOCKER)
    services.begin()

    services.stop()

    assert all(task.done() for task in services._starting)
    assert all(task.done() for task in services._waiting)


@pytest.mark.usefixtures("short_patience")
def test_stop_ends_the_waiting_for_an_image(make_services: MakeServices, client: Any) -> None:
    """A run that is interrupted during a pull does not wait for it."""
    assert client.ping()
    with socket.create_server(("127.0.0.1", 0)) as registry, contextlib.ExitStack() as stack:
        registry.settimeout(20)
        image = f"127.0.0.1:{registry.getsockname()[1]}/never:1"
        services = make_services(f'{DOCKER}redis.image = "{image}"\npostgres.backend = "off"\n')
        begun = threading.Thread(target=begin_in_vain, args=[services])
        begun.start()
        stack.enter_context(registry.accept()[0])

        services.stop()

        assert all(task.done() for task in services._starting)
        assert all(task.done() for task in services._waiting)
    begun.join()


def begin_in_vain(services: Services) -> None:
    with pytest.raises(NotReady, match="can't be pulled"):
        services.begin()


def test_an_exited_container_is_reported_at_once(make_services: MakeServices, client: Any) -> None:
    """The message shows the exit code and the last output."""
    assert client.ping()
    services = make_services(DOCKER + 'postgres.backend = "off"\n[redis.config]\nmaxmemory-policy = "no-such"\n')
    services.begin()

    with pytest.raises(NotReady) as failed:
        services.wait_ready()

    assert "redis is not ready: it has exited" in str(failed.value)
    assert "state       exited with code 1" in str(failed.value)
    assert "allkeys-random" in str(failed.value)


def test_pause_kill_and_restart_keep_the_data(make_services: MakeServices, client: Any) -> None:
    """PostgreSQL keeps committed data after a kill and a restart."""
    assert client.ping()
    services = make_services(DOCKER + 'redis.backend = "off"\n')
    services.begin()
    services.wait_ready()
    database = server(services.postgres)
    query(database.address, "CREATE TABLE kept AS SELECT 42 AS answer")

    database.pause()
    assert database.state() == "stopped by a signal (paused)"
    with pytest.raises(NotReady, match="paused"):
        database.wait_ready(0.3)
    database.resume()
    database.wait_ready(10)

    database.kill()
    assert database.state() == "exited with code 137"
    assert not database.running()
    assert database.pids() == []

    database.restart()
    database.wait_ready(20)
    assert query(database.address, "SELECT answer FROM kept") == 42


def test_containers_of_a_dead_run_are_removed(client: Any) -> None:
    """A container of a living run stays."""
    image = Settings().redis.image
    ours = str(identity(os.getpid())["begun"])
    owners = {
        "dead": f"{host_name()}:999999999:{ours}",
        "living": f"{host_name()}:{os.getpid()}:{ours}",
        "elsewhere": f"another-host:999999999:{ours}",
        "in another boot": f"{host_name()}:999999999:1 another",
    }
    made = {
        name: client.containers.create(image, labels={LABEL: f"test-{name}", OWNER_LABEL: owner})
        for name, owner in owners.items()
    }
    try:
        engine = Engine()
        engine.client()
        engine.close()

        left = client.containers.list(all=True, filters={"label": OWNER_LABEL}, ignore_removed=True)
        assert made["dead"].id not in {container.id for container in left}
        assert {made[name].id for name in owners if name != "dead"} <= {container.id for container in left}
    finally:
        for container in made.values():
            with contextlib.suppress(Exception):
                container.remove(force=True)


def test_an_unavailable_image(make_services: MakeServices, client: Any) -> None:
    """`docker` fails with the name of the image. `auto` uses an embedded server and gives the reason."""
    assert client.ping()
    images = f'redis.image = "{MISSING}"\npostgres.backend = "off"\n'

    with pytest.raises(NotReady, match=rf"the image {MISSING} is missing and can't be pulled(.*\n)+.*pull the image"):
        make_services(DOCKER + images).begin()

    services = make_services('backend = "auto"\n' + images)
    services.begin()
    assert server(services.redis).backend == "embedded"
    assert f"the image {MISSING} is missing" in server(services.redis).why


@pytest.fixture
def hung_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A socket that accepts connections and never answers."""
    path = tmp_path / "docker.sock"
    held: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        yield
        listener.shutdown(socket.SHUT_RDWR)
        for one in held:
            one.close()


@pytest.mark.usefixtures("hung_engine")
def test_engine_that_hangs(make_services: MakeServices) -> None:
    """The engine is asked once for both servers, and neither backend waits long for it."""
    with pytest.raises(
        NotReady,
        match=r"the Docker engine doesn't answer within 2 s(.*\n)+.*start Docker, or set PERF_SERVICES=embedded",
    ):
        make_services(DOCKER).begin()

    started = time.monotonic()
    services = make_services('backend = "auto"\n')
    services.begin()
    services.wait_ready()
    assert {service.backend for service in services.running()} == {"embedded"}
    assert {service.why for service in services.running()} == {"the Docker engine doesn't answer within 2 s"}
    assert time.monotonic() - started < 15  # far below docker-py's default timeout of a minute


def test_no_engine(make_services: MakeServices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`docker` fails at once. `auto` uses embedded servers."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")

    with pytest.raises(NotReady, match=r"redis is not ready: no Docker engine answers(.*\n)+.*start Docker"):
        make_services(DOCKER).begin()

    services = make_services('backend = "auto"\n')
    services.begin()
    services.wait_ready()
    assert "redis      embedded Valkey" in service_lines(services.running(), services.skipped, {})[0]
    assert "(no Docker engine answers)" in service_lines(services.running(), services.skipped, {})[0]


@pytest.mark.parametrize(
    ("kind", "text", "advice"),
    [
        (docker.DockerRedis, '[redis.config]\nrequirepass = ""\n', 'remove requirepass = "" from'),
        (docker.DockerRedis, "redis.password = false\n", r"remove password from \[redis\]"),
        (docker.DockerPostgres, 'postgres.password = "app"\n', r"remove password from \[postgres\]"),
    ],
)
def test_a_server_without_a_secret_password_is_never_published_to_the_network(
    make_services: MakeServices, kind: type[docker.DockerRedis | docker.DockerPostgres], text: str, advice: str
) -> None:
    """A remote engine publishes ports on all network interfaces of its machine."""
    services = make_services(DOCKER + text)
    container = kind("", services._context)
    remote = SimpleNamespace(api=SimpleNamespace(base_url="http://other.example:2375", api_version="1.44"))
    with pytest.raises(Unavailable, match="open to the network") as caught:
        container._make(remote)
    assert re.search(advice, caught.value.advice)


def test_a_redis_without_a_password_accepts_clients_of_this_machine(client: Any, make_services: MakeServices) -> None:
    """They connect from outside the container, which protected mode would refuse."""
    assert client.ping()
    services = make_services(DOCKER + 'postgres.backend = "off"\nredis.password = false\n')
    services.begin()
    services.wait_ready()
    address = server(services.redis).address

    with redis.Redis(address.host, address.port, retry=Retry(NoBackoff(), 0)) as anyone:
        assert anyone.ping()


def test_a_postgres_under_names_that_the_application_hard_codes(client: Any, make_services: MakeServices) -> None:
    """Applications that hard-code them connect."""
    assert client.ping()
    names = 'user = "app"\ndatabase = "shop"\npassword = "app"\n'
    services = make_services(f'{DOCKER}redis.backend = "off"\n[postgres]\n{names}')
    services.begin()
    services.wait_ready()
    at = server(services.postgres).address

    assert query(Address("postgresql", at.host, at.port, "app", "app", "shop"), "SELECT current_catalog") == "shop"


def test_an_image_of_another_name(client: Any, tmp_path: Path) -> None:
    """It is built on the official one. If it lacks an extension, the message says how to get another image."""
    client.images.get(Settings().postgres.image).tag("plumbline.invalid/vectors", "pg17")
    (tmp_path / "fail.py").write_text("exit('ERROR: extension \"vector\" is not available')")
    (tmp_path / "settings.toml").write_text(
        f'{DOCKER}redis.backend = "off"\npostgres.image = "plumbline.invalid/vectors:pg17"\n'
        'prepare = ["python", "fail.py"]\n'
    )
    services = Services(load_settings(tmp_path / "settings.toml", {}), tmp_path, environ={})
    try:
        services.begin()
        services.wait_ready()
        assert server(services.postgres).version
        lacks = "the image plumbline.invalid/vectors:pg17 has no extension vector: set image of [postgres]"
        with pytest.raises(NotReady, match=f"{re.escape(lacks)}.*, such as pgvector/pgvector:pg18"):
            services.start_application()
    finally:
        services.stop()
        client.images.remove("plumbline.invalid/vectors:pg17")


def test_an_image_with_an_extension(make_services: MakeServices) -> None:
    """The image of the how-to guide, if it is here or can be pulled: it starts, and has pgvector."""
    engine = Engine()
    try:
        engine.require_image(VECTORS)
    except Unavailable as error:
        pytest.skip(str(error))
    finally:
        engine.close()
    services = make_services(f'{DOCKER}redis.backend = "off"\npostgres.image = "{VECTORS}"\n')
    services.begin()
    services.wait_ready()
    postgres = server(services.postgres)

    assert postgres.version.startswith("17.")
    query(postgres.address, "CREATE EXTENSION vector")
    assert query(postgres.address, "SELECT '[3,4]'::vector <-> '[0,0]'") == 5


def test_shared_memory_of_a_container_is_not_needed(running: Services) -> None:
    """A container has 64 MB of shared memory, which parallel queries would fill."""
    assert query(server(running.postgres).address, "SHOW dynamic_shared_memory_type") == "mmap"
