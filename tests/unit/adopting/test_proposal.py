"""The settings that are proposed for what was found."""

from typing import Any

from msgspec.structs import replace

from plumbline.adopting.findings import (
    Findings,
    FoundApplication,
    FoundCommand,
    FoundInstall,
    FoundService,
    FoundVariable,
)
from plumbline.adopting.first_user import with_user
from plumbline.adopting.proposal import propose
from plumbline.adopting.tried import Answer, Route, Tried

BOTH = {"redis": "pyproject.toml", "postgres": "pyproject.toml"}
SHOP = FoundApplication("asgi", "shop.main:app", "src", "fastapi", "src/shop/main.py:3: app = FastAPI(")


def proposed(findings: Findings, application: FoundApplication | None = SHOP, **options: Any) -> dict[str, Any]:
    found = propose(findings, application, **options)
    return {f"{one.table}.{one.key}".removeprefix("."): one.value for one in found}


def test_an_application() -> None:
    found = proposed(Findings(services=BOTH), health_path="/healthz")

    assert found == {"app.asgi": "shop.main:app", "app.directory": "src", "app.health_path": "/healthz"}


def test_a_factory_served_by_a_command() -> None:
    factory = FoundApplication("wsgi", "shop:create_app", ".", "flask", "", factory=True)
    command = FoundApplication("command", "", ".", "", "Procfile:1", command=("node", "server.js"))

    assert proposed(Findings(services=BOTH), factory) == {"app.wsgi": "shop:create_app", "app.factory": True}
    assert proposed(Findings(services=BOTH), command) == {"app.command": ["node", "server.js"]}


def test_servers_that_nothing_uses_are_off() -> None:
    assert proposed(Findings(), None) == {"redis.backend": "off", "postgres.backend": "off"}


def test_variables() -> None:
    variables = (
        FoundVariable("DB_HOST", "{postgres.host}", True, ".env.example:1"),
        FoundVariable("SECRET", "", True, "config.py:3"),
    )

    found = proposed(Findings(services=BOTH, variables=variables), None, variables={"SECRET": "plumbline"})

    assert found == {"env.DB_HOST": "{postgres.host}", "env.SECRET": "plumbline", "env.PGPORT": "{postgres.port}"}


def test_a_port_that_a_variable_takes() -> None:
    host = FoundVariable("DB_HOST", "{postgres.host}", True, ".env.example:1")
    port = FoundVariable("DB_PORT", "{postgres.port}", True, ".env.example:2")

    assert "env.PGPORT" not in proposed(Findings(services=BOTH, variables=(host, port)))
    assert "env.PGPORT" not in proposed(Findings(services=BOTH, variables=(host,)), env={"DB_PORT": "{postgres.port}"})
    assert "env.PGPORT" not in proposed(Findings(services=BOTH))


def test_prepare() -> None:
    upgrade = FoundCommand("alembic", ("alembic", "upgrade", "head"), "alembic.ini")
    seed = FoundCommand("seed", ("python", "seed data.py"), "Procfile:2", directory="my app")

    assert proposed(Findings(services=BOTH, prepare=(upgrade,)), None) == {"prepare": ["alembic", "upgrade", "head"]}
    assert proposed(Findings(services=BOTH, prepare=(upgrade, seed)), None) == {
        "prepare": [["alembic", "upgrade", "head"], ["sh", "-c", "cd 'my app' && python 'seed data.py'"]]
    }


def test_files_of_sqlite() -> None:
    """Each run begins with an empty file of its own. A file that the code names has to be allowed."""
    url = FoundVariable("DB", "sqlite:///{root}/tests/performance/shop.sqlite", False, "shop/settings.py:2")
    names = " ".join(f"tests/performance/shop.sqlite{end}" for end in ("", "-wal", "-shm"))

    assert proposed(Findings(services=BOTH, variables=(url,)), None)["prepare"] == ["sh", "-c", f"rm -f {names}"]
    assert proposed(Findings(services=BOTH), None, sqlite=["shop.db"])["also_allowed"] == ["./shop.db"]


def test_processes_and_installation() -> None:
    worker = FoundCommand(
        "worker", ("arq", "app.worker.Settings"), "", directory="backend", ready_output="Starting worker"
    )
    install = FoundInstall("3.12", "poetry.lock", "dependencies", ("web",), ("main",), ("requirements/prod.txt",))

    found = proposed(Findings(services=BOTH, processes=(worker,), install=install), None)

    assert found == {
        "python": "3.12",
        "processes.worker.command": ["arq", "app.worker.Settings"],
        "processes.worker.directory": "backend",
        "processes.worker.ready_output": "Starting worker",
        "install.application": "dependencies",
        "install.extras": ["web"],
        "install.groups": ["main"],
        "install.requirements": ["requirements/prod.txt"],
    }


AMQP = "amqp://guest@{rabbitmq.host}:{rabbitmq.port}/"
QUEUE = Findings(
    services=BOTH,
    processes=(FoundCommand("celery", ("celery", "worker"), "Procfile:1", needs="rabbitmq"),),
    variables=(FoundVariable("BROKER_URL", AMQP, False, "shop/settings.py:2"),),
    stack=(
        FoundService("rabbitmq", "rabbitmq:4", 5672, "compose.yml:2", "started"),
        FoundService("mysql", "mysql:8", 1),
    ),
)
WITHOUT = "amqp://guest@plumbline:5672/"


def test_a_worker_with_its_broker() -> None:
    """Servers that no variable names are not proposed."""
    found = proposed(QUEUE, None)

    assert found == {
        "env.BROKER_URL": AMQP,
        "services.rabbitmq.image": "rabbitmq:4",
        "services.rabbitmq.port": 5672,
        "services.rabbitmq.ready": "started",
        "processes.celery.command": ["celery", "worker"],
    }
    assert proposed(QUEUE, None, env={"BROKER_URL": WITHOUT}) == found


def test_without_docker_the_worker_is_left_out() -> None:
    """No message reaches a broker of the user's. With Docker, `init` replaces the address."""
    findings = replace(QUEUE, no_docker="no Docker engine answers")

    assert proposed(findings, None) == {"env.BROKER_URL": WITHOUT}
    [variable] = [one for one in propose(QUEUE, None) if one.table == "env"]
    assert variable.replaces == (WITHOUT,)


def test_a_broker_of_the_users_own() -> None:
    """Its address stays, and nothing is started."""
    assert proposed(QUEUE, None, env={"BROKER_URL": "amqp://queue.test"}) == {"env.BROKER_URL": AMQP}


def test_a_worker_without_its_broker() -> None:
    worker = FoundCommand("celery", ("celery", "worker"), "Procfile:1", needs="broker")

    assert proposed(Findings(services=BOTH, processes=(worker,)), None) == {}


def test_a_first_user() -> None:
    """The command replaces the `prepare` that `init` wrote before. It is written once."""
    migrate = FoundCommand("django", ("python", "manage.py", "migrate"), "", "web")
    refused = Tried(answers=(Answer(Route("GET", "/orders"), 302, 0.1, location="/login/?next=/orders"),))
    findings = Findings(prepare=(migrate,))

    found = with_user(findings, refused, {})

    [prepare] = [one for one in propose(found, SHOP) if one.key == "prepare"]
    assert prepare.value[1][-1] == "cd web && python manage.py createsuperuser --noinput"
    assert prepare.replaces == (["sh", "-c", "cd web && python manage.py migrate"],)
    assert {one.name for one in found.variables} == {
        f"DJANGO_SUPERUSER_{one}" for one in ("USERNAME", "EMAIL", "PASSWORD")
    }
    assert with_user(found, refused, {}) == found
    assert with_user(findings, refused, {"DJANGO_SUPERUSER_EMAIL": "a@example.com"}) == findings
    assert with_user(findings, Tried(answers=(Answer(Route("GET", "/"), 302, 0.1, location="/home"),)), {}) == findings
