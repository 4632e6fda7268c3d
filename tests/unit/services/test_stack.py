"""Services of [services]: real containers of any image, external ones, and what happens without Docker."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from plumbline.services import docker
from plumbline.services.docker_engine import Engine
from plumbline.services.errors import NotReady, ServiceError
from plumbline.services.overview import service_table
from plumbline.services.services import Services
from tests.support.fixtures import MakeServices
from tests.support.traces import skip_without_docker
from tests.unit.services.test_docker import containers

NOTHING = 'backend = "off"\n'
CACHE = 'image = "redis:8-alpine"\nport = 6379\n'
QUEUE = f"{NOTHING}[services.queue]\n{CACHE}"


@pytest.fixture
def engine() -> Any:
    skip_without_docker()
    found = Engine()
    yield found.client()
    found.close()


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Docker engine answers."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


def ready(services: Services) -> Services:
    services.begin()
    services.wait_ready()
    return services


def failure(services: Services) -> str:
    with pytest.raises(NotReady) as failed:
        ready(services)
    return str(failed.value)


def ping(services: Services, name: str = "queue") -> bool:
    address = services.stack[name].address
    with redis.Redis(address.host, address.port) as client:
        return bool(client.ping())


def test_an_image_runs_as_a_service(engine: Any, make_services: MakeServices) -> None:
    """Its container has the label of the run, its own variables and command, and is removed at the end."""
    services = make_services(
        QUEUE + 'env = { NAME = "{value}" }\ncommand = ["redis-server", "--protected-mode", "no"]\n'
    )
    ready(services)
    (container,) = containers(engine, services)

    assert ping(services)
    assert "NAME={value}" in container.attrs["Config"]["Env"]
    assert container.attrs["Config"]["Cmd"] == ["redis-server", "--protected-mode", "no"]
    assert [line.split()[:3] for line in service_table(services.running(), {})[1:]] == [
        ["queue", "docker", "redis:8-alpine"]
    ]
    services.stop()
    assert containers(engine, services) == []


@pytest.mark.parametrize("line", ["", 'ready = "eady to accept connections"'], ids=["port", "text"])
def test_it_is_ready_when_it_says_so_and_after_a_restart(engine: Any, make_services: MakeServices, line: str) -> None:
    """The output of an earlier start does not count."""
    assert engine.ping()
    services = ready(make_services(QUEUE + line))
    queue = services.stack["queue"]

    queue.kill()
    assert not queue.running()
    queue.restart()
    queue.wait_ready(20)

    assert ping(services)


def test_a_path_answers_by_http(engine: Any, make_services: MakeServices) -> None:
    """A status other than 2xx is not ready yet; neither is a server that closes its connections."""
    assert engine.ping()
    serve = "mkdir /tmp/www; cd /tmp/www; (sleep 0.3; echo up > well) & exec httpd -f -p 8080"
    web = f'image = "redis:8-alpine"\nport = 8080\nready = "/well"\ncommand = ["sh", "-c", "{serve}"]\n'

    services = ready(make_services(f"{NOTHING}[services.web]\n{web}"))

    assert services.stack["web"].ready_s is not None


def test_a_service_can_announce_its_own_address(engine: Any, make_services: MakeServices) -> None:
    """As brokers do: the address is known before the container starts, also at the next start."""
    assert engine.ping()
    serve = "echo I am at $ANNOUNCED and {host}:{port}.; exec redis-server --protected-mode no"
    lines = f'ready = "I am at"\nenv = {{ ANNOUNCED = "{{host}}:{{port}}" }}\ncommand = ["sh", "-c", "{serve}"]\n'

    services = ready(make_services(f"{QUEUE}{lines}"))
    service = services.stack["queue"]
    before = service.address
    service.restart()

    at = f"{before.host}:{before.port}"
    assert f"I am at {at} and {at}." in service.log_tail(20)
    assert service.address == before
    assert ping(services)


def test_templates_name_it(engine: Any, make_services: MakeServices) -> None:
    """{NAME.host}, {NAME.port} and {NAME.prefix} are rendered for the code under test."""
    assert engine.ping()
    env = 'BROKER = "redis://{queue.host}:{queue.port}/0"\nQUEUE = "{queue.prefix}jobs"\n'
    services = make_services(f"{NOTHING}[env]\n{env}[services.queue]\n{CACHE}")
    services.begin()
    address = services.stack["queue"].address

    found = services.environment()

    assert found["BROKER"] == f"redis://{address.host}:{address.port}/0"
    assert str(found["QUEUE"]).removesuffix("jobs").isalnum()


def test_a_published_port_is_ready_with_its_server(
    engine: Any, make_services: MakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker accepts connections to a published port before the server listens."""
    assert engine.ping()
    monkeypatch.setattr(docker, "_routes_to_containers", lambda _: False)
    late = 'command = ["sh", "-c", "sleep 1; exec redis-server --protected-mode no"]\n'
    services = make_services(QUEUE + late)
    never = make_services(f'{NOTHING}[services.queue]\n{CACHE}command = ["sleep", "600"]\nready_limit_s = 0.5\n')

    ready(services)
    message = failure(never)

    assert ping(services)
    assert "nothing listens on port 6379 in the container" in message


CONNECT = "import os, redis; redis.Redis(os.environ['HOST'], int(os.environ['PORT'])).ping(); print('worker ready')"


def test_the_code_under_test_may_use_it(engine: Any, make_services: MakeServices) -> None:
    """Its kind does not matter: a Redis too. `prepare` need not use another server of the run."""
    assert engine.ping()
    command = f'["python", "-c", "{CONNECT}; import time; time.sleep(600)"]'
    text = f"""
        prepare = ["python", "-c", "{CONNECT}"]
        redis.backend = "embedded"
        postgres.backend = "off"
        [env]
        HOST = "{{queue.host}}"
        PORT = "{{queue.port}}"
        [processes.worker]
        command = {command}
        ready_output = "worker ready"
        [services.queue]
        image = "redis:8-alpine"
        port = 6379
    """
    services = ready(make_services(text))

    services.start_application()
    services.check_connections()

    assert services.processes["worker"].running()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            'image = "redis:8-alpine"\nport = 6380\nready_limit_s = 0.5\n',
            ["nothing listens on port 6380 in the container; its image declares 6379/tcp", "check `port` and `ready`"],
        ),
        (
            f'{CACHE}ready = "never said"\nready_limit_s = 0.5\n',
            ["no line of its output contains 'never said'", "check `port` and `ready` of [services.queue]"],
        ),
        (
            f'{CACHE}command = ["redis-server", "--no-such", "option"]\n',
            ["it has exited", "state       exited with code 1", "check `env` and `command` of [services.queue]"],
        ),
        (f'{CACHE}command = ["/no/such/program"]\n', ["it has exited", "not found"]),
        (
            'image = "plumbline.invalid/no-such-image:1"\nport = 1\n',
            ["the image plumbline.invalid/no-such-image:1 is missing", "correct `image` of [services.queue]"],
        ),
    ],
    ids=["port", "text", "exit", "program", "image"],
)
def test_what_is_wrong_is_told(engine: Any, make_services: MakeServices, lines: str, told: list[str]) -> None:
    """The message has the cause and what to change in which table."""
    assert engine.ping()

    message = failure(make_services(f"{NOTHING}[services.queue]\n{lines}"))

    assert message.startswith("queue is not ready: ")
    for words in told:
        assert words in message


def test_its_password_is_hidden(engine: Any, make_services: MakeServices) -> None:
    """A value is a password if the name of its variable says so."""
    assert engine.ping()
    lines = 'env = { ROOT_PASSWORD = "hush-hush-1", NAME = "plain-name" }\ncommand = ["sh", "-c", "env; exit 3"]\n'
    services = make_services(QUEUE + lines)

    message = failure(services)

    assert "hush-hush-1" not in message
    assert "ROOT_PASSWORD=***" in message
    assert "NAME=plain-name" in message
    assert services.scrub("hush-hush-1") == "***"


@pytest.mark.parametrize(("each_side", "expected"), [("true", 2), ("false", 1)])
def test_each_side_of_a_comparison_has_one_or_both_share_it(
    engine: Any, make_services: MakeServices, each_side: str, expected: int
) -> None:
    """The names of the containers say whose they are."""
    assert engine.ping()
    services = make_services(f"{QUEUE}each_side = {each_side}\n")
    services._sides = ["base", "head"]

    ready(services)

    assert len(services.stack) == expected
    assert all(ping(services, name) for name in services.stack)


# ---- without Docker


def test_without_docker_it_is_skipped_with_the_application(no_engine: None, make_services: MakeServices) -> None:
    """The reason names the variable for a service that already runs."""
    del no_engine
    text = f'{NOTHING}[env]\nBROKER = "{{queue.host}}"\n[services.queue]\n{CACHE}[app]\nasgi = "a:b"\n'
    services = ready(make_services(text))

    services.start_application()

    assert services.running() == []
    assert services.unavailable == {"queue", "app"}
    assert "no Docker engine answers" in services.skipped["queue"]
    assert "PERF_SERVICE_QUEUE" in services.skipped["queue"]
    assert services.skipped["app"].startswith("it needs queue: ")
    assert services.environment()["BROKER"] is None


def test_without_docker_a_required_one_is_an_error(no_engine: None, make_services: MakeServices) -> None:
    """`backend = "docker"` skips nothing."""
    del no_engine
    message = failure(make_services(QUEUE + 'backend = "docker"\n'))

    assert message.startswith("queue is not ready: no Docker engine answers")
    assert "start Docker, or set PERF_SERVICE_QUEUE" in message


def test_off_is_skipped_as_the_settings_say(make_services: MakeServices) -> None:
    services = ready(make_services(QUEUE + 'backend = "off"\n'))

    assert services.skipped["queue"] == "queue is off: set in settings.toml"
    assert services.unavailable == set()


@contextlib.contextmanager
def listening(*, closes: bool) -> Iterator[int]:
    """A port that accepts connections, and closes them as a proxy without a server does or waits for the client."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as kept:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    if closes:
                        connection.close()
                    else:
                        kept.enter_context(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_an_external_one_is_used(no_engine: None, make_services: MakeServices) -> None:
    """The variable wins over the image, and does not reach the code under test."""
    del no_engine
    with listening(closes=False) as port:
        services = ready(make_services(QUEUE, PERF_SERVICE_QUEUE=f"127.0.0.1:{port}"))

        assert services.stack["queue"].backend == "external"
        assert services.stack["queue"].address.port == port
        assert services.environment()["PERF_SERVICE_QUEUE"] is None
        services.stop()


def test_a_port_that_closes_its_connections_is_not_ready(make_services: MakeServices) -> None:
    """So does Docker's proxy before the server listens."""
    with listening(closes=True) as port:
        services = make_services(f"{QUEUE}ready_limit_s = 0.2\n", PERF_SERVICE_QUEUE=f"127.0.0.1:{port}")

        message = failure(services)

    assert "the connection was closed at once" in message
    assert "check that it runs and that PERF_SERVICE_QUEUE is right" in message


def test_an_external_one_elsewhere_has_to_be_allowed(make_services: MakeServices) -> None:
    services = make_services(QUEUE, PERF_SERVICE_QUEUE="queue.example:5672")

    with pytest.raises(ServiceError, match=r"PERF_SERVICE_QUEUE points at queue\.example, not this machine"):
        services.begin()


def test_a_mistyped_placeholder_is_told_with_the_nearest(make_services: MakeServices) -> None:
    text = f'{NOTHING}[env]\nBROKER = "{{quue.host}}"\n[services.queue]\n{CACHE}'

    with pytest.raises(ServiceError, match=r"env\.BROKER: there is no {quue\.host}; did you mean {queue\.host}\?"):
        make_services(text).begin()
