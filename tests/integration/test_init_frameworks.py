"""`plumbline init` in small repositories of each framework that it knows, from nothing to a run that passes."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.test_init import begun, init, settings_of
from tests.support.project import Project
from tests.support.slow import cases

__all__ = ["begun"]  # a fixture

SUITE = """\
[profiles.ci]
samples = 10
warmup = 2
timed_limit_s = 0.02
"""
STARLETTE = {
    "requirements.txt": "redis\nstarlette\nuvicorn\n",
    "Dockerfile": 'FROM python\nCMD ["uvicorn", "--factory", "shop.web:create_app", "--host", "0.0.0.0"]\n',
    "shop/__init__.py": "",
    "shop/web.py": """
        import contextlib
        import os

        from redis.asyncio import Redis
        from starlette.applications import Starlette
        from starlette.endpoints import HTTPEndpoint
        from starlette.responses import JSONResponse, PlainTextResponse
        from starlette.routing import Mount, Route


        class Carts(HTTPEndpoint):
            async def get(self, request):
                return JSONResponse(await request.state.redis.lrange("carts", 0, 9))

            async def post(self, request):
                await request.state.redis.lpush("carts", (await request.json())["name"])
                return JSONResponse({}, 201)


        async def ready(request):
            await request.state.redis.ping()
            return PlainTextResponse("ready")


        async def cart(request):
            return JSONResponse(request.path_params["number"])


        async def account(request):
            return JSONResponse({}, 401)


        @contextlib.asynccontextmanager
        async def lifespan(app):
            async with Redis.from_url(os.environ["REDIS_URL"], decode_responses=True) as redis:
                yield {"redis": redis}


        def create_app():
            carts = [Route("/", Carts), Route("/{number:int}", cart)]
            routes = [Route("/readyz", ready), Mount("/carts", routes=carts), Route("/account", account)]
            return Starlette(routes=routes, lifespan=lifespan)
        """,
}
LITESTAR = {
    "pyproject.toml": """
        [project]
        name = "shop"
        version = "1.0"
        dependencies = ["asyncpg", "litestar"]
        """,
    "src/shop/__init__.py": "",
    "src/shop/asgi.py": """
        import contextlib
        import os
        from typing import Annotated

        import asyncpg
        import msgspec
        from litestar import Controller, Litestar, Request, get, post
        from litestar.datastructures import State
        from litestar.exceptions import NotAuthorizedException


        class Order(msgspec.Struct):
            name: Annotated[str, msgspec.Meta(examples=["pen"])]


        class Orders(Controller):
            path = "/orders"

            @get()
            async def newest(self, state: State) -> list[str]:
                return [row["name"] for row in await state.pool.fetch("SELECT name FROM orders LIMIT 10")]

            @get("/{number:int}")
            async def one(self, number: int) -> int:
                return number

            @post()
            async def add(self, state: State, data: Order) -> None:
                await state.pool.execute("INSERT INTO orders VALUES ($1)", data.name)


        @get("/health")
        async def health() -> str:
            return "well"


        @get("/account")
        async def account(request: Request) -> str:
            raise NotAuthorizedException


        @contextlib.asynccontextmanager
        async def lifespan(app):
            async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1) as app.state.pool:
                await app.state.pool.execute("CREATE TABLE IF NOT EXISTS orders (name text)")
                yield


        app = Litestar([Orders, health, account], lifespan=[lifespan])
        """,
}
# Its container migrates before it starts.
FLASK = {
    "requirements.txt": "flask\nflask-migrate\nflask-sqlalchemy\ngunicorn\npsycopg[binary]\n",
    "Dockerfile": 'FROM python\nENTRYPOINT ["./entrypoint.sh"]\n',
    "entrypoint.sh": "#!/bin/sh\nset -e\nflask --app shop db upgrade\nexec gunicorn 'shop:create_app()'\n",
    "migrations/alembic.ini": "[alembic]\n",
    "migrations/env.py": """
        from alembic import context
        from flask import current_app

        with current_app.extensions["migrate"].db.engine.begin() as connection:
            context.configure(connection=connection)
            context.run_migrations()
        """,
    "migrations/versions/orders.py": """
        from alembic import op

        revision, down_revision = "orders", None


        def upgrade():
            op.execute('CREATE TABLE "order" (id serial PRIMARY KEY, name text NOT NULL)')
            op.execute("INSERT INTO \\"order\\" (name) SELECT 'order ' || n FROM generate_series(1, 100) n")
        """,
    "shop/__init__.py": """
        import os

        from flask import Flask
        from flask_migrate import Migrate
        from flask_sqlalchemy import SQLAlchemy

        db = SQLAlchemy()
        migrate = Migrate()


        def create_app():
            from shop.orders import orders

            app = Flask(__name__)
            url = os.environ["DATABASE_URL"]
            app.config["SQLALCHEMY_DATABASE_URI"] = url.replace("postgresql:", "postgresql+psycopg:")
            db.init_app(app)
            migrate.init_app(app, db)
            app.register_blueprint(orders, url_prefix="/orders")

            @app.get("/healthz")
            def health():
                return "well"

            @app.get("/account")
            def account():
                return "", 401

            return app
        """,
    "shop/orders.py": """
        from flask import Blueprint, request

        from shop import db

        orders = Blueprint("orders", __name__)


        class Order(db.Model):
            id = db.Column(db.Integer, primary_key=True)
            name = db.Column(db.Text, nullable=False)


        @orders.get("/")
        def newest():
            return [order.name for order in Order.query.order_by(Order.id.desc()).limit(10)]


        @orders.get("/<int:number>")
        def one(number):
            return db.get_or_404(Order, number).name


        @orders.post("/")
        def add():
            db.session.add(Order(name=request.json["name"]))
            db.session.commit()
            return "", 201
        """,
}
DJANGO = {
    "manage.py": """
        import os
        import sys

        from django.core.management import execute_from_command_line

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        execute_from_command_line(sys.argv)
        """,
    "config/__init__.py": "",
    "config/settings.py": """
        import os

        SECRET_KEY = os.environ["SECRET_KEY"]
        DEBUG = os.environ.get("DEBUG") == "1"
        ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "").split(",")
        ROOT_URLCONF = "config.urls"
        WSGI_APPLICATION = "config.wsgi.application"
        INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", {apps}, "orders"]
        MIDDLEWARE = [
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
        ]
        DATABASES = {{
            "default": {{
                "ENGINE": "django.db.backends.postgresql",
                "HOST": os.environ.get("POSTGRES_HOST", "localhost"),
                "PORT": os.environ.get("POSTGRES_PORT", "5432"),
                "NAME": os.environ.get("POSTGRES_DB", "shop"),
                "USER": os.environ.get("POSTGRES_USER", "shop"),
                "PASSWORD": os.environ.get("POSTGRES_PASSWORD", ""),
            }}
        }}
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        USE_TZ = True
        {more}
        """,
    "config/wsgi.py": """
        import os

        from django.core.wsgi import get_wsgi_application

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        application = get_wsgi_application()
        """,
    "orders/__init__.py": "",
    "orders/models.py": """
        from django.db import models


        class Order(models.Model):
            name = models.CharField(max_length=50)
        """,
    "orders/migrations/__init__.py": "",
    "orders/migrations/0001_initial.py": """
        from django.db import migrations, models


        class Migration(migrations.Migration):
            initial = True
            operations = [
                migrations.CreateModel("Order", [
                    ("id", models.BigAutoField(primary_key=True)),
                    ("name", models.CharField(max_length=50)),
                ]),
            ]
        """,
}
VIEWS = """
    from django.http import HttpResponse


    def health(request):
        return HttpResponse("well")


    def account(request):
        return HttpResponse(status=401)
    """
REST = {
    **DJANGO,
    "requirements.txt": "django\ndjangorestframework\ndrf-spectacular\ngunicorn\npsycopg[binary]\n",
    "config/settings.py": DJANGO["config/settings.py"].format(
        apps='"rest_framework", "drf_spectacular"',
        more='REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}',
    ),
    "config/urls.py": """
        from django.urls import include, path
        from drf_spectacular.views import SpectacularAPIView
        from rest_framework.routers import DefaultRouter

        from orders import api, views

        router = DefaultRouter()
        router.register("orders", api.Orders)
        urlpatterns = [
            path("healthz/", views.health),
            path("account/", views.account),
            path("api/", include(router.urls)),
            path("api/count/", api.Count.as_view()),
            path("api/schema/", SpectacularAPIView.as_view()),
        ]
        """,
    "orders/views.py": VIEWS,
    "orders/api.py": """
        from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
        from rest_framework.response import Response
        from rest_framework.serializers import ModelSerializer
        from rest_framework.views import APIView
        from rest_framework.viewsets import ModelViewSet

        from orders.models import Order


        @extend_schema_serializer(examples=[OpenApiExample("pen", {"name": "pen"}, request_only=True)])
        class OrderSerializer(ModelSerializer):
            class Meta:
                model = Order
                fields = ["id", "name"]


        class Orders(ModelViewSet):
            queryset = Order.objects.order_by("-id")[:10]
            serializer_class = OrderSerializer


        class Count(APIView):
            @extend_schema(responses=int)
            def get(self, request):
                return Response(Order.objects.count())
        """,
}
NINJA = {
    **DJANGO,
    "requirements.txt": "django\ndjango-ninja\ngunicorn\npsycopg[binary]\n",
    "config/settings.py": DJANGO["config/settings.py"].format(apps='"ninja"', more=""),
    "config/urls.py": """
        from django.urls import path
        from ninja import NinjaAPI

        from orders import api, views

        ninja = NinjaAPI()
        ninja.add_router("/orders", api.router)
        urlpatterns = [
            path("healthz/", views.health),
            path("account/", views.account),
            path("api/", ninja.urls),
        ]
        """,
    "orders/views.py": VIEWS,
    "orders/api.py": """
        from ninja import Field, Router, Schema

        from orders.models import Order

        router = Router()


        class New(Schema):
            name: str = Field(examples=["pen"])


        @router.get("")
        def newest(request) -> list[str]:
            return [order.name for order in Order.objects.order_by("-id")[:10]]


        @router.get("/count")
        def count(request) -> int:
            return Order.objects.count()


        @router.get("/{number}")
        def one(request, number: int) -> int:
            return number


        @router.post("")
        def add(request, new: New) -> int:
            return Order.objects.create(name=new.name).id
        """,
}


class Expected(NamedTuple):
    """A repository, and what `init` finds in it."""

    files: Mapping[str, str]
    app: dict[str, Any]
    prepare: list[Any] | None
    env: set[str]  # the names of the variables
    routes: list[str]
    post: str = ""  # the path that gets the example


DJANGO_APP = {"wsgi": "config.wsgi:application", "health_path": "/healthz/"}
DJANGO_ENV = {f"POSTGRES_{name}" for name in ("HOST", "PORT", "DB", "USER", "PASSWORD")} | {
    "SECRET_KEY",
    "ALLOWED_HOSTS",
}
SEED = ["python", "-m", "plumbline.seed"]
MIGRATE_AND_SEED = [["python", "manage.py", "migrate", "--noinput"], SEED]
FRAMEWORKS = {
    "starlette": Expected(
        STARLETTE,
        {"asgi": "shop.web:create_app", "factory": True, "health_path": "/readyz"},
        None,
        {"REDIS_URL"},
        ["/readyz", "/carts/"],
    ),
    "litestar": Expected(
        LITESTAR,
        {"asgi": "shop.asgi:app", "directory": "src", "health_path": "/health"},
        [*SEED, "--start", "shop.asgi:app"],
        {"DATABASE_URL"},
        ["/health", "/orders"],
        "/orders",
    ),
    "flask": Expected(
        FLASK,
        {"wsgi": "shop:create_app", "factory": True, "health_path": "/healthz"},
        ["flask", "--app", "shop:create_app()", "db", "upgrade"],
        {"DATABASE_URL"},
        ["/healthz", "/orders/"],
    ),
    "rest-framework": Expected(
        REST,
        DJANGO_APP,
        MIGRATE_AND_SEED,
        DJANGO_ENV,
        ["/healthz/", "/api/", "/api/orders/", "/api/count/"],
        "/api/orders/",
    ),
    "ninja": Expected(
        NINJA,
        DJANGO_APP,
        MIGRATE_AND_SEED,
        DJANGO_ENV,
        ["/healthz/", "/api/orders", "/api/orders/count"],
        "/api/orders",
    ),
}


def assigned(file: Path, name: str) -> Any:
    """Return the value of a constant in a test file."""
    [value] = [
        one.value
        for one in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == name
    ]
    return ast.literal_eval(value)


@pytest.mark.parametrize("framework", cases(FRAMEWORKS, slow={"starlette", "litestar", "ninja"}))
def test_from_nothing_to_a_run_that_passes(begun: Project, framework: str) -> None:
    """The application, its migrations and its variables are found. Its routes are measured, by `ci` later on, too."""
    expected = FRAMEWORKS[framework]
    begun.write("settings.toml", SUITE)

    done = init(begun, expected.files, "--yes")

    assert done.code == 0, done.output
    settings: dict[str, Any] = settings_of(begun)
    assert settings["app"] == expected.app
    assert settings.get("prepare") == expected.prepare
    assert set(settings["env"]) == expected.env
    assert set(assigned(begun.suite / "test_routes.py", "ROUTES")) == set(expected.routes)
    keys = {f"test_routes.py::test_get[{route}]" for route in expected.routes}
    if expected.post:
        assert f'"{expected.post}",' in (begun.suite / "test_post.py").read_text(encoding="utf-8")
        assert assigned(begun.suite / "test_post.py", "BODY") == {"name": "pen"}
        keys.add("test_post.py::test_post")
    assert begun.verdicts() == dict.fromkeys(keys, "new")
    assert "account" in assigned(begun.suite / "test_logged_in.py", "ROUTES")[0]
    assert all(f"get[{route}] " in done.output for route in expected.routes)  # in the table

    begun.git("init", "--quiet", "--initial-branch=main")
    begun.commit("Start")
    done = begun.own_python("-m", "plumbline", "ci", PERF_SERVICES="embedded")

    assert done.code == 0, done.output
    assert begun.verdicts().keys() == keys
