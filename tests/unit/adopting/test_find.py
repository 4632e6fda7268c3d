"""Find how a project is installed, prepared and checked, and what runs beside it."""

import pytest

from plumbline.adopting.findings import FoundInstall
from tests.unit.adopting.conftest import Search

APP = "from fastapi import FastAPI\n\napp = FastAPI()\n"
PACKAGES = '[project]\nname = "shop"\nversion = "1"\ndependencies = ["fastapi", "psycopg[binary]", "redis"]\n'
FILES = {"pyproject.toml": PACKAGES, "shop/__init__.py": "", "shop/main.py": APP}


class TestInstall:
    def test_nothing_if_the_defaults_will_do(self, search: Search) -> None:
        project = PACKAGES + 'requires-python = ">=3.11"\n[dependency-groups]\ndev = ["pytest"]\n'
        docker = "FROM python:3.13\nRUN uv sync --frozen --no-dev\n"

        assert search({**FILES, "pyproject.toml": project, "Dockerfile": docker}).install == FoundInstall()

    @pytest.mark.parametrize(
        ("name", "text", "python"),
        [
            ("Dockerfile", "ARG V=3.12\nFROM python:${V}-slim AS base\n", "3.12"),
            ("Dockerfile", "FROM ghcr.io/astral-sh/uv:python3.13-bookworm\n", "3.13"),
            ("Dockerfile", "FROM python:3.9.10-slim\n", "3.11"),  # the oldest that Plumbline runs on
            ("Dockerfile", "FROM node:20\n", ""),
            ("runtime.txt", "python-3.12.4\n", "3.12"),
            (".tool-versions", "nodejs 20\npython 3.12.1\n", "3.12"),
            (".python-version", "3.12\n", ""),
            (".python-version", "3.9.1\n", "3.11"),
        ],
    )
    def test_python(self, search: Search, monkeypatch: pytest.MonkeyPatch, name: str, text: str, python: str) -> None:
        monkeypatch.setattr("shutil.which", lambda program: program)
        found = search({**FILES, name: text}).install

        assert found.python == python
        assert found.python_seen.startswith(f"{name}:" if python else "")
        assert ("Plumbline runs on" in found.python_seen) == ("3.9" in text)

    def test_a_python_that_this_machine_does_not_have(self, search: Search) -> None:
        assert search({**FILES, "Dockerfile": "FROM python:3.99\n"}).install.python == ""

    def test_extras_and_groups_of_production(self, search: Search) -> None:
        project = PACKAGES + (
            '[project.optional-dependencies]\nserver = ["gunicorn"]\nmail = ["aiosmtplib"]\nother = ["rich"]\n'
            '[dependency-groups]\nprod = ["sentry-sdk"]\ndev = ["pytest"]\n'
        )
        docker = "FROM python\nRUN uv sync --extra server --group prod --group dev\n"
        main = APP + "import aiosmtplib\nimport pytest\n"

        found = search({**FILES, "pyproject.toml": project, "Dockerfile": docker, "shop/main.py": main}).install

        assert (found.extras, found.groups) == (("server", "mail"), ("prod",))

    def test_a_group_of_poetry(self, search: Search) -> None:
        project = """
            [tool.poetry.dependencies]
            python = "^3.11"
            [tool.poetry.group.prod.dependencies]
            gunicorn = "*"
        """
        docker = "FROM python:3.12\nRUN pip install poetry \\\n  && poetry install --with prod,dev\n"

        found = search({**FILES, "pyproject.toml": project, "Dockerfile": docker}).install

        assert found.groups == ("prod",)
        assert found.seen == "Dockerfile:2: poetry install --with prod,dev"

    def test_a_project_that_production_does_not_install(self, search: Search) -> None:
        project = PACKAGES + '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
        docker = "FROM python\nRUN poetry install --no-root --only main\n"

        assert search({**FILES, "pyproject.toml": project, "Dockerfile": docker}).install.application == "dependencies"

    def test_a_project_that_hatchling_cannot_build(self, search: Search) -> None:
        project = (
            PACKAGES.replace("shop", "web-shop")
            + '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        )

        assert search({**FILES, "pyproject.toml": project}).install.application == "dependencies"

    def test_requirements_of_production(self, search: Search) -> None:
        docker = "FROM python\nRUN pip install --no-cache-dir -r requirements/deploy.txt\n"
        files = {"requirements/deploy.txt": "fastapi\n", "requirements/extra.txt": "rich\n", "Dockerfile": docker}

        assert search({"main.py": APP, **files}).install.requirements == ("requirements/deploy.txt",)

    @pytest.mark.parametrize("name", ["requirements.txt", "requirements/base.txt"])
    def test_requirements_below_the_root(self, search: Search, name: str) -> None:
        found = search({"src/main.py": APP, f"src/{name}": "fastapi\n", "src/requirements-dev.txt": "rich\n"}).install

        assert found.requirements == (f"src/{name}",)

    def test_the_folder_of_a_part(self, search: Search) -> None:
        files = {f"backend/{name}": text for name, text in FILES.items()}

        assert (
            search({**files, "pyproject.toml": "[tool.uv.workspace]\nmembers = ['backend']\n"}).install.folder
            == "backend"
        )


ALEMBIC = {
    "alembic.ini": "[alembic]\nscript_location = %(here)s/migrations\n",
    "migrations/env.py": "from alembic import context\n",
    "migrations/versions/1_first.py": "",
}


class TestPrepare:
    @pytest.mark.parametrize(("conf", "variable"), [("", []), ("shop/", ["PICCOLO_CONF=shop.piccolo_conf"])])
    def test_piccolo(self, search: Search, conf: str, variable: list[str]) -> None:
        files = {**FILES, f"{conf}piccolo_conf.py": "DB = None\n"}
        assert search(files).prepare == ()
        migration = "from piccolo.apps.migrations.auto.migration_manager import MigrationManager\n"

        found = search({**files, "shop/piccolo_migrations/first.py": migration})

        assert [one.command for one in found.prepare] == [("piccolo", "migrations", "forwards", "all")]
        assert [f"{one.name}={one.template}" for one in found.variables] == variable

    def test_alembic(self, search: Search) -> None:
        found = search({**FILES, **ALEMBIC}).prepare

        assert [(one.command, one.directory) for one in found] == [(("alembic", "upgrade", "head"), ".")]

    def test_alembic_in_another_folder(self, search: Search) -> None:
        files = {f"backend/{name}": text for name, text in {**FILES, **ALEMBIC}.items()}

        assert search(files).prepare[0].directory == "backend"

    def test_without_migrations_the_application_makes_its_tables(self, search: Search) -> None:
        files = {name: text for name, text in ALEMBIC.items() if "versions" not in name}

        assert search({**FILES, **files}).prepare == ()

    def test_seeds_that_follow_the_migrations(self, search: Search) -> None:
        script = (
            "#!/bin/sh\npython app/wait.py\nalembic upgrade head\npython app/initial_data.py\nuvicorn shop.main:app\n"
        )

        found = search({**FILES, **ALEMBIC, "scripts/prestart.sh": script}).prepare

        assert [one.command for one in found] == [("alembic", "upgrade", "head"), ("python", "app/initial_data.py")]
        assert found[1].seen == "scripts/prestart.sh:4: python app/initial_data.py"

    def test_django(self, search: Search) -> None:
        manage = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')\n"
        wsgi = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"

        found = search({"web/manage.py": manage, "web/mysite/wsgi.py": wsgi}).prepare

        assert [(one.command, one.directory) for one in found] == [
            (("python", "manage.py", "migrate", "--noinput"), "web")
        ]

    def test_flask_migrate(self, search: Search) -> None:
        main = "import flask\nfrom flask_migrate import Migrate\n\ndef create_app():\n    return flask.Flask('shop')\n"
        migrations = {f"migrations/{name}": text for name, text in ALEMBIC.items()}

        found = search({"shop/__init__.py": main, **migrations}).prepare

        assert [one.command for one in found] == [("flask", "--app", "shop:create_app()", "db", "upgrade")]

    @pytest.mark.parametrize(
        ("function", "name"),
        [
            ('@click.command("init-db")\ndef create(): ...', "init-db"),
            ("@app.cli.command()\ndef create_db(): ...", "create-db"),
            ("@click.command\ndef init_db_command(): ...", "init-db"),
            ('@click.command("init-db")\ndef create(name): ...', ""),
            ('@click.command("drop-db")\ndef drop(): ...', ""),
        ],
    )
    def test_a_command_of_flask(self, search: Search, function: str, name: str) -> None:
        main = f"import click\nfrom flask import Flask\napp = Flask('shop')\n\n{function}\n"

        found = search({"shop.py": main}).prepare

        assert [one.command for one in found] == ([("flask", "--app", "shop:app", name)] if name else [])

    def test_folders_that_a_script_makes(self, search: Search) -> None:
        """Folders outside of the project, and those that are made after the migration, are left out."""
        script = "mkdir -p data data/media /var/lib/shop\nmkdir -p ~/x\nalembic upgrade head\nmkdir -p late\n"

        found = search({**FILES, **ALEMBIC, "start.sh": f"#!/bin/sh\n{script}"}).prepare

        assert [one.command for one in found] == [("mkdir", "-p", "data", "data/media"), ("alembic", "upgrade", "head")]

    def test_litestar(self, search: Search) -> None:
        main = "from advanced_alchemy import x\nfrom litestar import Litestar\napp = Litestar()\n"

        found = search({"app.py": main, "db/migrations/versions/1_first.py": ""}).prepare

        assert [one.command for one in found] == [
            ("litestar", "--app", "app:app", "database", "upgrade", "--no-prompt")
        ]

    def test_aerich(self, search: Search) -> None:
        found = search({**FILES, "pyproject.toml": PACKAGES + '[tool.aerich]\ntortoise_orm = "x"\n'}).prepare

        assert [one.command for one in found] == [("aerich", "upgrade")]

    @pytest.mark.parametrize(
        ("files", "paths"),
        [
            ({"db/migrations/1_first.up.sql": "", "db/migrations/1_first.down.sql": ""}, ("db/migrations",)),
            ({"sql/schema.sql": "", "sql/seed.sql": "", "x/data.sql": ""}, ("sql/schema.sql", "sql/seed.sql")),
            ({"db/init.sql": ""}, ("db/init.sql",)),
            ({"schema.sql": "CREATE TABLE item (n int AUTO_INCREMENT)"}, None),  # of MySQL
            ({"tests/schema.sql": ""}, None),
            ({"query.sql": ""}, None),
            ({**ALEMBIC, "schema.sql": ""}, None),
        ],
    )
    def test_plain_sql(self, search: Search, files: dict[str, str], paths: tuple[str, ...] | None) -> None:
        found = search({**FILES, **files}).prepare

        commands = [one.command for one in found if one.name == "sql"]
        assert commands == ([("python", "-m", "plumbline.load_sql", *paths)] if paths else [])

    def test_what_postgresql_s_container_loads_at_its_start(self, search: Search) -> None:
        compose = """
            services:
              db:
                image: postgres
                volumes:
                  - data:/var/lib/postgresql/data
                  - ./two.sql:/docker-entrypoint-initdb.d/2.sql:ro
                  - {type: bind, source: ./sql, target: /docker-entrypoint-initdb.d/1}
                  - /tmp
        """

        [found] = search({**FILES, "compose.yaml": compose, "two.sql": "", "sql/one.sql": "", "schema.sql": ""}).prepare

        assert found.command[3:] == ("sql", "two.sql")
        assert found.seen.startswith("compose.yaml:2: ./sql:/docker-entrypoint-initdb.d")

    def test_a_schema_for_sqlite(self, search: Search) -> None:
        main = APP + 'import os\nDATABASE = os.getenv("DATABASE", "sqlite:///shop.db")\n'

        [found] = search({"main.py": main, "schema.sql": ""}).prepare

        assert found.command[3:] == ("--sqlite=tests/performance/shop.sqlite", "schema.sql")


ARQ = "from arq.connections import RedisSettings\n\nclass WorkerSettings:\n    functions = [print]\n"
CELERY = "from celery import Celery\n\napp = Celery('shop')\n"
TASKIQ = "from taskiq_redis import ListQueueBroker, R\n\nbroker = ListQueueBroker('x').with_result_backend(R())\n"
SAQ = "from saq import Queue\n\nsettings = {'queue': Queue.from_url('x'), 'functions': [print]}\n"


class TestProcesses:
    @pytest.mark.parametrize(
        ("code", "command", "ready"),
        [
            (ARQ, "arq shop.worker.WorkerSettings", "Starting worker for"),
            (CELERY, "celery -A shop.worker worker --loglevel=info", " ready."),
            (TASKIQ, "taskiq worker shop.worker:broker", "Listening started."),
            (SAQ, "saq shop.worker.settings -v", "Worker starting:"),
        ],
    )
    def test_workers_in_code(self, search: Search, code: str, command: str, ready: str) -> None:
        found = search({**FILES, "shop/worker.py": code}).processes

        assert [(" ".join(one.command), one.directory, one.ready_output) for one in found] == [(command, ".", ready)]

    def test_a_command_counts_before_code(self, search: Search) -> None:
        procfile = "worker: celery -A shop.worker worker -l info --autoscale 1,1\nbeat: celery -A shop.worker beat\n"

        found = search({**FILES, "shop/worker.py": CELERY, "Procfile": procfile}).processes

        assert [one.command[3:] for one in found] == [("worker", "-l", "info", "--autoscale", "1,1")]

    def test_dramatiq_in_code(self, search: Search) -> None:
        """The worker imports the module that sets the broker, then those with actors."""
        broker = "import dramatiq\nfrom dramatiq.brokers.redis import RedisBroker as R\n\ndramatiq.set_broker(R())\n"
        tasks = "from dramatiq import actor\n\n@actor(max_retries=3)\ndef send(): pass\n"
        files = {**FILES, "shop/broker.py": broker, "shop/a.py": tasks, "shop/b.py": "import dramatiq\n"}

        [found] = search(files).processes

        assert (found.name, found.command) == ("dramatiq", ("dramatiq", "shop.broker", "shop.a"))
        assert (found.ready_output, found.needs) == ("Worker process is ready for action.", "redis")
        assert found.seen == "shop/a.py:4: def send(): pass"

    def test_dramatiq_with_its_default_broker(self, search: Search) -> None:
        tasks = "import dramatiq\n\n@dramatiq.actor\ndef send(): pass\n"

        [found] = search({**FILES, "shop/a.py": tasks, "requirements.txt": "dramatiq[rabbitmq]\n"}).processes

        assert (found.command, found.needs) == (("dramatiq", "shop.a"), "rabbitmq")

    def test_dramatiq_of_django(self, search: Search) -> None:
        settings = (
            'INSTALLED_APPS = ["django_dramatiq"]\nDRAMATIQ_BROKER = {"BROKER": "dramatiq.brokers.redis.RedisBroker"}\n'
        )

        [found] = search({**FILES, "manage.py": "", "shop/settings.py": settings}).processes

        assert found.command == ("python", "manage.py", "rundramatiq")

    @pytest.mark.parametrize("command", ["litestar --app shop.main:app workers run", "shop workers run --workers 2"])
    def test_litestar_saq(self, search: Search, command: str) -> None:
        [found] = search({**FILES, "Procfile": f"worker: {command}\nother: litestar workers status\n"}).processes

        assert (found.name, " ".join(found.command), found.ready_output) == ("saq", command, "SAQ version")

    @pytest.mark.parametrize(
        ("line", "package", "compose", "broker"),
        [
            ("os.getenv('CELERY_BROKER_URL', 'amqp://guest:guest@localhost')", "redis", "", "rabbitmq"),
            ("os.getenv('CELERY_BROKER_URL', 'redis://localhost')", "redis", "image: rabbitmq", "redis"),
            ("os.environ['CELERY_BROKER_URL']", "redis", "image: rabbitmq:4", "rabbitmq"),
            ("os.environ['CELERY_BROKER_URL']", "celery[redis]", "image: mysql", "redis"),
            ("os.environ['CELERY_BROKER_URL']", "pika", "", "rabbitmq"),
            ("os.environ['CELERY_BROKER_URL']", "celery", "", "broker"),
        ],
    )
    def test_the_broker_of_celery(self, search: Search, line: str, package: str, compose: str, broker: str) -> None:
        files = {"shop/__init__.py": "", "shop/main.py": APP, "shop/worker.py": CELERY}
        files |= {"shop/settings.py": f"import os\nURL = {line}\n", "requirements.txt": f"{package}\n"}

        [found] = search({**files, "compose.yml": f"services:\n  queue:\n    {compose}\n"}).processes

        assert found.needs == broker
        assert ("--without-mingle" in found.command) == (broker == "rabbitmq")

    def test_arq_beside_rabbitmq(self, search: Search) -> None:
        settings = "BROKER_URL = 'amqp://localhost'\n"

        [found] = search({**FILES, "shop/worker.py": ARQ, "shop/settings.py": settings}).processes

        assert found.needs == "redis"


class TestServices:
    def test_from_dependencies(self, search: Search) -> None:
        assert search(FILES).services == {
            "postgres": 'pyproject.toml:4: dependencies = ["fastapi", "psycopg[binary]", "redis"]',
            "redis": 'pyproject.toml:4: dependencies = ["fastapi", "psycopg[binary]", "redis"]',
        }

    def test_from_imports(self, search: Search) -> None:
        assert search({"main.py": APP, "db.py": "import asyncpg\n"}).services == {"postgres": "db.py:1: import asyncpg"}

    def test_sqlite_alone_and_drivers_of_tests_need_no_server(self, search: Search) -> None:
        project = '[project]\ndependencies = ["aiosqlite"]\n[dependency-groups]\ntest = ["asyncpg"]\n'

        assert search({"pyproject.toml": project, "main.py": APP}).services == {}

    def test_others(self, search: Search) -> None:
        compose = "services:\n  queue:\n    image: rabbitmq:4-management\n  db:\n    image: postgres:17\n"

        [found] = search({"compose.yml": compose}).stack

        assert (found.name, found.image, found.port) == ("rabbitmq", "rabbitmq:4-management", 5672)
        assert found.seen == "compose.yml:2: image: rabbitmq:4-management"

    @pytest.mark.parametrize(
        ("image", "name", "used"),
        [
            ("rabbitmq:${VERSION:-3.13}-management", "rabbitmq", "rabbitmq:3.13-management"),
            ("bitnami/rabbitmq:3.13", "rabbitmq", "rabbitmq:4-alpine"),  # has another user than guest
            ("mariadb:11", "mysql", "mariadb:11"),
            ("docker.elastic.co/elasticsearch/elasticsearch:8.15.0", "elasticsearch", None),
        ],
    )
    def test_images_of_compose_files(self, search: Search, image: str, name: str, used: str | None) -> None:
        [found] = search({"compose.yml": f"services:\n  it:\n    image: {image}\n"}).stack

        assert (found.name, found.image) == (name, used or image)

    def test_rabbitmq_without_a_compose_file(self, search: Search) -> None:
        [found] = search({"main.py": APP, ".env.example": "QUEUE_URL=amqp://shop:s3cr3t@queue\n"}).stack

        assert (found.name, found.image, found.seen) == ("rabbitmq", "rabbitmq:4-alpine", ".env.example:1: QUEUE_URL")


class TestHealthPaths:
    USUAL = "/health"

    @pytest.mark.parametrize(
        ("files", "path"),
        [
            ({}, "/health"),
            (
                {"Dockerfile": "FROM python\nHEALTHCHECK \\\n  CMD curl http://localhost:8000/up || exit 1"},
                "/up",
            ),
            (
                {
                    "compose.yml": "services: {web: {build: ., healthcheck: {test: [curl, 'http://127.0.0.1/alive?x=1']}}}"
                },
                "/alive",
            ),
            ({"k8s/web.yaml": "kind: Pod\nspec:\n  livenessProbe:\n    httpGet:\n      path: /livez\n"}, "/livez"),
            ({"shop/main.py": APP + "@app.get('/readyz')\ndef ready(): pass\n"}, "/readyz"),
        ],
    )
    def test_checks_and_routes_come_before_the_usual_ones(
        self, search: Search, files: dict[str, str], path: str
    ) -> None:
        found = search({**FILES, **files}).health_paths

        assert found[0] == path
        assert {"/health", "/healthz", "/", "/docs"} <= {*found}

    def test_prefixes_of_routers(self, search: Search) -> None:
        routes = """
            from fastapi import APIRouter
            router = APIRouter(prefix='/utils')
            @router.get('/health-check/')
            def check(): pass
        """
        settings = "class Settings:\n    API: str = '/api/v1'\nsettings = Settings()\n"
        main = """
            from fastapi import FastAPI
            from shop.routes import router
            from shop.settings import settings
            app = FastAPI()
            app.include_router(router, prefix=settings.API)
        """

        found = search({**FILES, "shop/routes.py": routes, "shop/settings.py": settings, "shop/main.py": main})

        assert found.health_paths[0] == "/api/v1/utils/health-check/"

    def test_pages_for_everybody_come_last(self, search: Search) -> None:
        web = """
            from shop.blueprints import login
            @login.route('/login')
            def show(): pass
        """
        blueprints = "from flask import Blueprint\nlogin = Blueprint('login', __name__)\n"
        main = """
            from flask import Flask
            from shop import web
            from shop.blueprints import login
            app = Flask(__name__)
            app.register_blueprint(login, url_prefix='/auth')
        """

        files = {"shop/web.py": web, "shop/main.py": main, "shop/blueprints.py": blueprints}

        assert search({**FILES, **files}).health_paths[-1] == "/auth/login"

    def test_django(self, search: Search) -> None:
        manage = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site.settings')\n"
        wsgi = manage + "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
        files = {
            "site/settings.py": "ROOT_URLCONF = 'site.urls'\n",
            "site/urls.py": "urlpatterns = [path('status/', status)]\n",
        }

        assert search({"manage.py": manage, "site/wsgi.py": wsgi, **files}).health_paths[0] == "/status/"


def test_broken_files_are_passed_over(search: Search) -> None:
    broken = {
        "pyproject.toml": "[project",
        "compose.yml": "services: [",
        "Dockerfile": 'FROM\nCMD ["uvicorn"\n',
        "Procfile": "web: uvicorn 'shop.main:app",
        "alembic.ini": "[alembic",
        ".env.example": "=\nA\n",
        "shop/bad.py": "def (",
        "render.yaml": "\t",
    }

    assert [one.target for one in search({**FILES, **broken}).applications] == ["shop.main:app"]


def test_tables_that_are_no_tables_are_passed_over(search: Search) -> None:
    odd = {
        "pyproject.toml": 'project = "shop"\nbuild-system = 1\n[tool]\npoetry = 3\nfastapi = ""\n',
        "compose.yml": "services:\n  web: {build: 3, environment: text, healthcheck: [], command: 4}\n  other: 5\n",
        "fly.toml": "processes = 1\n",
        "shop/long.py": "import os\nlong = " + " + ".join(["'a'"] * 3000) + "\n",
    }

    assert [one.target for one in search({**FILES, **odd}).applications] == ["shop.main:app"]
