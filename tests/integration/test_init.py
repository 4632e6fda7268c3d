"""`plumbline init` in repositories that know nothing of Plumbline yet."""

import os
import pty
import socket
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from plumbline.adopting.pipelines import COMMENT, MEASURE
from tests.support.project import ROOT, Done, Project
from tests.support.traces import require_image
from tests.template.copies import write_files

SHOP = {
    "pyproject.toml": """
        [project]
        name = "shop"
        version = "1.0"
        dependencies = ["asyncpg", "fastapi", "pydantic-settings"]
        """,
    "src/shop/__init__.py": "",
    "src/shop/settings.py": """
        from pydantic_settings import BaseSettings


        class Settings(BaseSettings):
            db_host: str
            db_port: int
            db_user: str
            db_password: str
            db_name: str = "postgres"
            signing_key: str


        settings = Settings()
        """,
    "src/shop/main.py": """
        from contextlib import asynccontextmanager

        import asyncpg
        from fastapi import FastAPI, HTTPException, Request
        from pydantic import BaseModel, Field

        from shop.settings import settings


        class Order(BaseModel):
            name: str = Field(examples=["pen"])


        @asynccontextmanager
        async def lifespan(app: FastAPI):
            where = {"host": settings.db_host, "port": settings.db_port, "user": settings.db_user}
            where |= {"password": settings.db_password, "database": settings.db_name}
            async with asyncpg.create_pool(**where, min_size=1) as pool:
                await pool.execute("CREATE TABLE IF NOT EXISTS orders (name text)")
                yield {"pool": pool}


        app = FastAPI(lifespan=lifespan)


        @app.get("/up")
        async def up():
            return {}


        @app.get("/orders")
        async def orders(request: Request):
            return [row["name"] for row in await request.state.pool.fetch("SELECT name FROM orders")]


        @app.post("/orders", status_code=201)
        async def add(request: Request, order: Order):
            await request.state.pool.execute("INSERT INTO orders VALUES ($1)", order.name)


        @app.get("/me")
        async def me():
            raise HTTPException(401)


        @app.get("/orders/delete")
        async def delete_all(request: Request):
            raise RuntimeError("this request changes something")
        """,
}
SETTINGS = """\
# Variables.
[env]

[redis]
image = "redis:8-alpine"

[profiles.ci]
samples = 10
warmup = 2
timed_limit_s = 0.02
"""


@pytest.fixture
def begun(tmp_path: Path) -> Project:
    """A suite without an application in a repository."""
    suite = tmp_path / "tests" / "performance"
    suite.mkdir(parents=True)
    for name in "conftest.py", "pyproject.toml", "__init__.py":
        (suite / name).write_text((ROOT / "tests" / "performance" / name).read_text(encoding="utf-8"), encoding="utf-8")
    (suite / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    return Project(tmp_path, tmp_path)


def init(project: Project, files: Mapping[str, str], *arguments: str) -> Done:
    write_files(project.root, files)
    return project.own_python("-m", "plumbline", "init", *arguments, PERF_SERVICES="embedded")


def settings_of(project: Project) -> dict[str, object]:
    return tomllib.loads((project.suite / "settings.toml").read_text(encoding="utf-8"))


def test_an_application(begun: Project) -> None:
    """Its settings and benchmarks are found, shown, written and measured. Again, there is nothing more to do."""
    done = init(begun, SHOP, "--yes")

    assert done.code == 0, done.output
    settings = settings_of(begun)
    assert settings["app"] == {"asgi": "shop.main:app", "directory": "src", "health_path": "/up"}
    assert settings["env"] == {
        "DB_HOST": "{postgres.host}",
        "DB_PORT": "{postgres.port}",
        "DB_USER": "{postgres.user}",
        "DB_PASSWORD": "{postgres.password}",
        "DB_NAME": "{postgres.database}",
        "SIGNING_KEY": settings["env"]["SIGNING_KEY"],  # type: ignore[index]
    }
    assert settings["redis"] == {"image": "redis:8-alpine", "backend": "off"}
    # The application makes its tables at its start.
    assert settings["prepare"] == ["python", "-m", "plumbline.seed", "--start", "shop.main:app"]
    assert set(begun.verdicts().items()) == {
        ("test_routes.py::test_get[/up]", "new"),
        ("test_routes.py::test_get[/orders]", "new"),
        ("test_post.py::test_post", "new"),
    }
    for shown in (
        "src/shop/main.py:",
        '+DB_HOST = "{postgres.host}"',
        "GET /me  401: wants a login",
        "not asked: GET /orders/delete",
    ):
        assert shown in done.output
    assert {test["outcome"] for test in begun.results()["tests"] if "test_logged_in" in test["key"]} == {"skipped"}

    before = {file: file.read_text() for file in begun.suite.glob("*.*") if file.is_file()}
    assert init(begun, {}).code == 0  # without --yes: there is nothing to agree to
    assert {file: file.read_text() for file in begun.suite.glob("*.*") if file.is_file()} == before


def test_nothing_is_written_without_consent(begun: Project) -> None:
    done = init(begun, SHOP)

    assert (done.code, "-s init -- --yes`" in done.output) == (2, True)
    assert settings_of(begun) == tomllib.loads(SETTINGS)
    assert list(begun.suite.glob("test_*.py")) == []


LIBRARY = {"pyproject.toml": '[project]\nname = "pens"\nversion = "1"\n', "pens/__init__.py": "PENS = [1]\n"}


def test_servers_of_others_are_refused(begun: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        done = begun.own_python("-m", "plumbline", "init", "--yes", PERF_API_URL=url, PERF_SERVICE_MAIL="127.0.0.1:25")
        with pytest.raises(BlockingIOError):
            other.accept()

    assert (done.code, "unset PERF_API_URL, PERF_SERVICE_MAIL." in done.output) == (2, True)


def test_the_end_of_the_input_is_no_consent(begun: Project) -> None:
    write_files(begun.root, LIBRARY)
    terminal, own = pty.openpty()
    os.write(terminal, b"\x04")  # Ctrl-D
    try:
        command = [sys.executable, "-m", "plumbline", "init"]
        done = subprocess.run(command, cwd=begun.root, stdin=own, capture_output=True, text=True, check=False)
    finally:
        os.close(own)
        os.close(terminal)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("[y/N] nothing was written\n")
    assert settings_of(begun) == tomllib.loads(SETTINGS)


def test_the_line_ends_of_windows_stay(begun: Project) -> None:
    (begun.suite / "settings.toml").write_text(SETTINGS, encoding="utf-8", newline="\r\n")

    assert init(begun, LIBRARY, "--yes").code == 0

    text = (begun.suite / "settings.toml").read_bytes()
    assert b'[redis]\r\nimage = "redis:8-alpine"\r\nbackend = "off"\r\n' in text
    assert text.count(b"\n") == text.count(b"\r\n")


def test_a_test_file_that_is_not_utf_8(begun: Project) -> None:
    (begun.suite / "test_mine.py").write_bytes("# coding: latin-1\nX = 'ä'\n".encode("latin-1"))

    done = init(begun, {"main.py": "from fastapi import FastAPI\n\napp = FastAPI()\n"}, "--yes")

    assert (done.code, "tests/performance/test_mine.py can't be read" in done.output) == (2, True)


def test_an_application_that_is_not_tried(begun: Project) -> None:
    """The run lacks a server. Variables that [app.env] sets are not proposed."""
    app = '[app]\nasgi = "main:app"\n[app.env]\nBROKER = "{broker.host}"\n'
    begun.write("settings.toml", f'{SETTINGS}[services.broker]\nimage = "broker"\nport = 5672\n{app}')
    main = "import os\n\nfrom fastapi import FastAPI\n\nBROKER = os.environ['BROKER']\napp = FastAPI()\n"

    write_files(begun.root, {"main.py": main})
    nowhere = {"DOCKER_HOST": "unix:///nowhere", "PERF_SERVICES": "embedded"}
    done = begun.own_python("-m", "plumbline", "init", "--yes", **nowhere)

    assert (done.code, "not tried: main:app: it needs broker: no Docker engine" in done.output) == (3, True)
    assert settings_of(begun)["env"] == {}


QUEUE = {
    "requirements.txt": "celery\nfastapi\n",
    "tasks.py": """
        import os

        from celery import Celery

        celery = Celery("shop", broker=os.getenv("BROKER_URL", "amqp://shop:secret@localhost/shop"))


        @celery.task
        def send(name):
            pass
        """,
    "main.py": """
        from fastapi import FastAPI
        from pydantic import BaseModel, Field

        from tasks import send


        class Mail(BaseModel):
            name: str = Field(examples=["pen"])


        app = FastAPI()


        @app.get("/health")
        def health():
            return 1


        @app.post("/mails", status_code=202)
        def add(mail: Mail):
            send.delay(mail.name)
        """,
    "compose.yaml": """
        services:
          queue:
            image: rabbitmq:4-alpine
          search:
            image: elasticsearch:8.15.0
        """,
}
AMQP = "amqp://{}:{}/"


def test_a_worker_of_rabbitmq_without_docker(begun: Project) -> None:
    """It is left out, and no message reaches a RabbitMQ of the user's. The application is measured."""
    write_files(begun.root, QUEUE)
    nowhere = {"DOCKER_HOST": "unix:///nowhere", "PERF_SERVICES": "embedded"}

    done = begun.own_python("-m", "plumbline", "init", "--yes", **nowhere)

    assert done.code == 0, done.output
    assert "rabbitmq is not started, and neither is the worker of celery (compose.yaml:2: image:" in done.output
    assert "it needs Docker, but no Docker engine answers: start Docker, and run" in done.output
    assert "      [services.elasticsearch]\n" in done.output
    settings = settings_of(begun)
    assert settings["env"] == {"BROKER_URL": AMQP.format("plumbline", 5672)}
    assert not {"processes", "services"} & settings.keys()
    assert begun.verdicts() == {"test_routes.py::test_get[/health]": "new"}


def test_a_worker_of_rabbitmq(begun: Project) -> None:
    """An earlier run had no Docker. Now a message from the application reaches RabbitMQ, and is measured."""
    require_image("rabbitmq:4-alpine")
    text = SETTINGS.replace("[env]", f'[env]\nBROKER_URL = "{AMQP.format("plumbline", 5672)}"')
    # On a busy machine, RabbitMQ takes long to start.
    limit = '[services.rabbitmq]\nimage = "rabbitmq:4-alpine"\nport = 5672\nready_limit_s = 200\n'
    begun.write("settings.toml", text + limit)

    done = init(begun, QUEUE, "--yes")

    assert done.code == 0, done.output
    settings = settings_of(begun)
    assert settings["env"] == {"BROKER_URL": AMQP.format("{rabbitmq.host}", "{rabbitmq.port}")}
    assert settings["services"]["rabbitmq"]["ready"] == "Server startup complete"  # type: ignore[index]
    assert settings["processes"]["celery"]["command"][:4] == ["celery", "-A", "tasks", "worker"]  # type: ignore[index]
    assert begun.results()["environment"]["services"]["rabbitmq"] == "docker"
    assert begun.verdicts()["test_post.py::test_post"] == "new"


def test_an_application_that_fails_at_import(begun: Project) -> None:
    """The cause is shown, with what to do. What was found is written, to be corrected."""
    done = init(begun, {**SHOP, "src/shop/main.py": "from fastapi import FastAPI\n\napp = FastAPI()\n1 / 0\n"}, "--yes")

    assert done.code == 3, done.output
    assert "ZeroDivisionError" in done.output
    assert "the application did not start: correct tests/performance/settings.toml" in done.output
    assert settings_of(begun)["app"] == {"asgi": "shop.main:app", "directory": "src"}


def test_several_applications(begun: Project) -> None:
    """The first that starts is taken, or the one that is named."""
    app = "from fastapi import FastAPI\n\napp = FastAPI()\n\n\n@app.get('/{name}')\ndef get():\n    return 1\n"
    files = {"broken/main.py": f"{app.format(name='a')}1 / 0\n", "working/main.py": app.format(name="health")}
    files |= {"broken/__init__.py": "", "working/__init__.py": "", "requirements.txt": "fastapi\n"}
    init(begun, files, "--yes", "--app=broken.main:app")
    assert settings_of(begun)["app"] == {"asgi": "broken.main:app"}
    begun.write("settings.toml", SETTINGS)

    done = init(begun, {}, "--yes")

    assert done.code == 0, done.output
    assert settings_of(begun)["app"] == {"asgi": "working.main:app", "health_path": "/health"}


def test_a_library(begun: Project) -> None:
    """Without an application, the import of the package is measured. Accepted regressions alone are no baseline."""
    write_files(begun.root, {"tests/performance/baselines/accepted.json": "{}"})

    done = init(begun, LIBRARY, "--yes")

    assert done.code == 0, done.output
    assert begun.verdicts() == {"test_pens.py::test_import": "new"}
    assert begun.results()["reasons"] == [{"kind": "no_baseline"}]
    assert settings_of(begun)["postgres"] == {"backend": "off"}


def test_settings_that_are_wrong(begun: Project) -> None:
    begun.write("settings.toml", "tolerances = 1\n")

    done = init(begun, SHOP, "--yes")

    assert (done.code, "unknown key 'tolerances'" in done.output) == (2, True)


def test_two_services_of_a_monorepo(tmp_path: Path) -> None:
    """The workflows of each move to the root of the repository, and one comment follows both."""
    copied = {path: (ROOT / path).read_text(encoding="utf-8") for path in (MEASURE, COMMENT)}
    (tmp_path / ".git").mkdir()
    for name in "shop", "cart":
        files = {f"{name}/__init__.py": "", "tests/performance/settings.toml": SETTINGS, **copied}
        files["pyproject.toml"] = f'[project]\nname = "{name}"\nversion = "1"\n'
        service = Project(tmp_path / "services" / name, tmp_path)
        for file in "conftest.py", "pyproject.toml", "__init__.py":
            files[f"tests/performance/{file}"] = (ROOT / "tests/performance" / file).read_text(encoding="utf-8")
        service.root.mkdir(parents=True)

        done = init(service, files, "--yes")

        assert done.code == 0, done.output
        assert not (service.root / ".github").exists()
    workflows = tmp_path / ".github" / "workflows"
    assert sorted(file.name for file in workflows.iterdir()) == [
        "performance-comment.yml",
        "performance-services-cart.yml",
        "performance-services-shop.yml",
    ]
    followed = yaml.safe_load((workflows / "performance-comment.yml").read_text())[True]["workflow_run"]["workflows"]
    assert followed == ["performance services/shop", "performance services/cart"]


def test_no_suite_and_no_template(tmp_path: Path) -> None:
    """The template is named in the error if nobody knows where this package came from."""
    done = Project(tmp_path, tmp_path).own_python("-m", "plumbline", "init", "--yes", "--template=nowhere")

    assert done.code == 2, done.output


def test_a_folder_of_the_same_name(begun: Project) -> None:
    (begun.suite / "settings.toml").unlink()

    done = begun.own_python("-m", "plumbline", "init", "--yes", f"--template={ROOT}")

    assert done.code == 2, done.output
    assert "tests/performance exists already, without settings.toml: move or rename it first" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("name", ["main", "main:app; rm", "../main:app"])
def test_a_name_that_is_no_application(begun: Project, name: str) -> None:
    done = init(begun, {}, "--yes", f"--app={name}")

    assert (done.code, f"--app={name}: write it as module:attribute" in done.output) == (2, True)
    assert settings_of(begun) == tomllib.loads(SETTINGS)


def test_an_environment_that_no_session_has_made_keeps_its_packages(begun: Project) -> None:
    """Even within a session of the user's own."""
    write_files(begun.root, SHOP)
    init = ("-m", "plumbline", "init", "--yes")

    done = begun.own_python(*init, PERF_SERVICES="embedded", NOX_CURRENT_SESSION="tests")

    assert done.code == 0, done.output
    assert begun.own_python("-c", "import xdist").code == 0
