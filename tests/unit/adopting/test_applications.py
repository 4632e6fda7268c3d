"""Applications are found in code and in the commands that start them."""

from pathlib import Path

import pytest

from plumbline.adopting.findings import FoundApplication
from tests.support.repository import Repository
from tests.unit.adopting.conftest import Search

FASTAPI = "from fastapi import FastAPI\n\napp = FastAPI()\n"
FACTORY = "def create_app() -> 'FastAPI':\n    from fastapi import FastAPI\n    return FastAPI()\n"


def only(found: tuple[FoundApplication, ...]) -> FoundApplication:
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("framework", "kind", "line"),
    [
        ("fastapi", "asgi", "from fastapi import FastAPI\napp = FastAPI(title='Shop')"),
        ("fastapi", "asgi", "import fastapi\napp: fastapi.FastAPI = fastapi.FastAPI()"),
        ("fastapi", "asgi", "from fastapi import FastAPI\nclass Shop(FastAPI): pass\napp = Shop()"),
        ("starlette", "asgi", "from starlette.applications import Starlette\napp = Starlette()"),
        ("litestar", "asgi", "from litestar import Litestar as L\napp = L([])"),
        ("quart", "asgi", "from quart import Quart\napp = Quart(__name__)"),
        ("flask", "wsgi", "from flask import Flask\ntry:\n    app = Flask(__name__)\nexcept OSError:\n    raise"),
    ],
)
def test_an_application_that_a_module_makes(search: Search, framework: str, kind: str, line: str) -> None:
    found = only(search({"shop/__init__.py": "", "shop/main.py": line}).applications)

    assert (found.framework, found.kind, found.target, found.directory) == (framework, kind, "shop.main:app", ".")
    assert found.seen.startswith("shop/main.py:")
    assert not found.factory


def test_a_factory(search: Search) -> None:
    found = only(
        search(
            {
                "shop/__init__.py": "",
                "shop/web.py": FACTORY,
                "shop/views.py": "def create_app(name): return FastAPI(name)",
            }
        ).applications
    )

    assert (found.target, found.factory) == ("shop.web:create_app", True)


def test_the_application_that_a_factory_of_another_module_makes_comes_first(search: Search) -> None:
    found = search(
        {
            "shop/factory.py": """
                from flask import Flask

                def create_app(config=None):
                    app = Flask('shop')
                    return app
            """,
            "shop/start.py": "from shop.factory import create_app\n\napplication = create_app('production')\n",
        }
    ).applications

    assert [one.target for one in found] == ["shop.start:application", "shop.factory:create_app"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Procfile", "web: uvicorn shop.second:app --port $PORT\n"),
        ("Dockerfile", 'FROM python:3.12\nCMD ["uvicorn", "shop.second:app", \\\n  "--host", "0.0.0.0"]\n'),
        ("Dockerfile", "FROM python\nCMD alembic upgrade head && poetry run uvicorn --host=0.0.0.0 shop.second:app\n"),
        ("Dockerfile", "FROM python\nENTRYPOINT exec gunicorn -k uvicorn.workers.UvicornWorker -w 4 shop.second:app\n"),
        (
            "compose.yaml",
            "services:\n  web:\n    build: .\n    command: sh -c 'granian --interface asgi shop.second:app'\n",
        ),
        ("compose.yml", "services:\n  web:\n    build: .\n    command: [hypercorn, shop.second:app]\n"),
        ("start.sh", '#!/bin/sh\nAPP=${APP_MODULE:-shop.second:app}\nexec gunicorn "$APP"\n'),
        ("Makefile", "run:\n\t@uv run --extra web uvicorn shop.second:app --reload\n"),
        ("pyproject.toml", '[tool.fastapi]\nentrypoint = "shop.second:app"\n'),
        ("fly.toml", '[processes]\napp = "uvicorn shop.second:app"\n'),
        ("render.yaml", "services:\n- type: web\n  startCommand: uvicorn shop.second:app\n"),
        ("scripts/run.sh", "python -m fastapi run shop/second.py --workers 4\n"),
        ("shop/__main__.py", "import uvicorn\nuvicorn.run('shop.second:app', reload=True)\n"),
    ],
)
def test_the_application_that_is_started_comes_first(search: Search, name: str, text: str) -> None:
    found = search(
        {"shop/__init__.py": "", "shop/main.py": FASTAPI, "shop/second.py": FASTAPI, name: text}
    ).applications

    assert [one.target for one in found] == ["shop.second:app", "shop.main:app"]


def test_production_counts_before_development(search: Search) -> None:
    found = search(
        {
            "shop/main.py": FASTAPI,
            "shop/debug.py": FASTAPI,
            "Dockerfile.dev": "FROM python\nCMD uvicorn shop.debug:app",
            "Dockerfile": "FROM python\nCMD uvicorn shop.main:app",
        }
    ).applications

    assert found[0].target == "shop.main:app"


def test_an_application_that_uses_no_other_module_comes_after_one_that_does(search: Search) -> None:
    """As the first steps of a tutorial beside the real application."""
    shop = FACTORY.replace("\n", "\n    from . import items\n", 1)
    files = {"hello.py": FASTAPI, "shop/__init__.py": shop, "shop/items.py": ""}

    assert [one.target for one in search(files).applications] == ["shop:create_app", "hello:app"]


def test_sub_applications_and_examples_come_last(search: Search) -> None:
    found = search(
        {
            "admin.py": FASTAPI,
            "docs/example.py": FASTAPI,
            "shop/web/factory/main.py": FASTAPI + "from admin import app as admin\napp.mount('/admin', admin)\n",
            "tests/test_app.py": FASTAPI,
        }
    ).applications

    assert [one.target for one in found] == ["shop.web.factory.main:app", "admin:app", "example:app"]


def test_no_application(search: Search) -> None:
    found = search({"library/__init__.py": "def double(n): return 2 * n\n", "broken.py": "def ("})

    assert found.applications == ()
    assert found.variables == ()


class TestTheFolderOfImports:
    """The folder in which the absolute imports of the application can be found."""

    @pytest.mark.parametrize("folder", [".", "src", "backend", "services/api/src"])
    def test_by_imports(self, search: Search, folder: str) -> None:
        main = "from app.routes import router\nfrom fastapi import FastAPI\napp = FastAPI()\n"
        found = only(search({f"{folder}/app/main.py": main, f"{folder}/app/routes.py": ""}).applications)

        assert (found.directory, found.target) == (folder, "app.main:app")

    def test_by_relative_imports_within_the_package(self, search: Search) -> None:
        main = "from .api import router\nfrom fastapi import FastAPI\napp = FastAPI()\n"
        files = {
            "src/app/main.py": main,
            "src/app/api/__init__.py": "",
            "src/app/api/v1.py": "from ..db import session\n",
        }
        found = only(search({**files, "src/app/__init__.py": "", "src/app/db.py": ""}).applications)

        assert (found.directory, found.target) == ("src", "app.main:app")

    def test_a_start_command_from_another_folder(self, search: Search) -> None:
        """Such as `uvicorn.run("main:app")` in a script that Python starts by its path."""
        main = "from shop.routes import router\nfrom fastapi import FastAPI\napp = FastAPI()\nuvicorn.run('main:app')\n"
        found = only(search({"shop/main.py": main, "shop/routes.py": ""}).applications)

        assert (found.directory, found.target) == (".", "shop.main:app")

    def test_a_start_command_decides(self, search: Search) -> None:
        files = {"src/__init__.py": "", "src/app/__init__.py": "", "src/app/main.py": FASTAPI}

        assert only(search(files).applications).target == "src.app.main:app"
        found = only(search({**files, "Procfile": "web: uvicorn app.main:app"}).applications)
        assert (found.directory, found.target) == ("src", "app.main:app")


MANAGE = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')\n"
WSGI = MANAGE + "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
ASGI = MANAGE + "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n"


DJANGO = {
    "web/manage.py": MANAGE,
    "web/mysite/wsgi.py": WSGI,
    "web/mysite/asgi.py": ASGI,
    "web/mysite/settings.py": "",
}


class TestDjango:
    def test_wsgi_by_default(self, search: Search) -> None:
        found = search(DJANGO).applications

        assert [(one.kind, one.target, one.directory) for one in found] == [
            ("wsgi", "mysite.wsgi:application", "web"),
            ("asgi", "mysite.asgi:application", "web"),
        ]

    def test_a_start_command_counts_before_the_settings(self, search: Search) -> None:
        settings = "WSGI_APPLICATION = 'mysite.wsgi.application'\nASGI_APPLICATION = 'mysite.asgi.application'\n"
        files = {**DJANGO, "web/mysite/settings.py": settings, "Procfile": "web: daphne mysite.asgi:application"}

        assert search(files).applications[0].kind == "asgi"

    def test_settings_name_what_the_code_does_not_show(self, search: Search) -> None:
        settings = "WSGI_APPLICATION = 'mysite.wsgi.application'\n"
        wsgi = "from mysite.handlers import make\napplication = make()\n"

        found = only(search({"manage.py": MANAGE, "mysite/settings.py": settings, "mysite/wsgi.py": wsgi}).applications)

        assert (found.kind, found.target, found.framework) == ("wsgi", "mysite.wsgi:application", "django")

    @pytest.mark.parametrize(
        "command", ["daphne mysite.asgi:application", "gunicorn -k uvicorn.workers.UvicornWorker mysite.asgi"]
    )
    def test_asgi_if_it_is_started(self, search: Search, command: str) -> None:
        found = search({**DJANGO, "Procfile": f"web: {command}"}).applications

        assert (found[0].kind, found[0].target) == ("asgi", "mysite.asgi:application")


def test_files_that_git_ignores_do_not_count(tmp_path: Path) -> None:
    from plumbline.adopting.find import find

    files = {"shop/__init__.py": "", "shop/main.py": FASTAPI, ".gitignore": "generated/\n", "venv/lib/main.py": FASTAPI}
    made = Repository.create(tmp_path / "repository", files)
    (made.root / "generated").mkdir()
    (made.root / "generated/main.py").write_text(FASTAPI)

    assert only(find(made.root).applications).target == "shop.main:app"


def test_a_part_of_a_repository(tmp_path: Path) -> None:
    """Files above it count if they are about this part."""
    from plumbline.adopting.find import find

    compose = """
services:
  api: {build: {context: ., dockerfile: api/Dockerfile}, command: uvicorn app.second:app}
  other: {build: other, command: uvicorn app.main:app}
"""
    files = {
        "api/app/main.py": FASTAPI,
        "api/app/second.py": FASTAPI,
        "compose.yml": compose,
        "uv.lock": "version = 1\n",
    }
    made = Repository.create(tmp_path / "repository", files)

    found = find(made.root / "api")

    assert [one.target for one in found.applications] == ["app.second:app", "app.main:app"]
    assert found.install.lock == "uv.lock"
