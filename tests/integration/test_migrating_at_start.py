"""Applications that migrate their database when they start: `init`, then a comparison of a change with a migration."""

import re
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from tests.integration.test_init import begun, init, settings_of
from tests.support.project import Project
from tests.support.slow import cases

__all__ = ["begun"]  # a fixture

SUITE = """\
[profiles.ci]
samples = 20
warmup = 2
timed_limit_s = 0.05

[gate]
tolerance = 0.2
minimum_effect = 0.9
pairs_limit_s = 15
tails = []
"""
ALEMBIC = {
    "requirements.txt": "alembic\nfastapi\npsycopg[binary]\nsqlalchemy\n",
    "shop/__init__.py": "",
    "shop/models.py": """
        import os

        from sqlalchemy import ForeignKey, create_engine
        from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

        engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:"))


        class Base(DeclarativeBase):
            pass


        class Order(Base):
            __tablename__ = "orders"
            id: Mapped[int] = mapped_column(primary_key=True)
            items: Mapped[list["Item"]] = relationship()


        class Item(Base):
            __tablename__ = "items"
            id: Mapped[int] = mapped_column(primary_key=True)
            order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
        """,
    "shop/main.py": """
        from contextlib import asynccontextmanager

        from alembic import command
        from alembic.config import Config
        from fastapi import FastAPI

        from shop import views


        @asynccontextmanager
        async def lifespan(app):
            config = Config()
            config.set_main_option("script_location", "shop:migrations")
            command.upgrade(config, "head")
            yield


        app = FastAPI(lifespan=lifespan)
        app.include_router(views.router)
        """,
    "shop/views.py": """
        from fastapi import APIRouter
        from sqlalchemy import func, select
        from sqlalchemy.orm import Session, selectinload

        from shop.models import Item, Order, engine

        router = APIRouter()


        @router.get("/health")
        def health() -> str:
            return "well"


        @router.get("/count")
        def count() -> int:
            with Session(engine) as session:
                return session.scalar(select(func.count(Item.id)))


        @router.get("/orders")
        def newest() -> list[int]:
            with Session(engine) as session:
                query = select(Order).options(selectinload(Order.items)).limit(20)
                return [len(order.items) for order in session.scalars(query)]
        """,
    "shop/migrations/env.py": """
        from alembic import context

        from shop.models import Base, engine

        with engine.begin() as connection:
            context.configure(connection=connection, target_metadata=Base.metadata)
            context.run_migrations()
        """,
    "shop/migrations/script.py.mako": "",
    "shop/migrations/versions/first.py": """
        from alembic import op

        revision, down_revision = "first", None


        def upgrade():
            op.execute("CREATE TABLE orders (id serial PRIMARY KEY)")
            op.execute("CREATE TABLE items (id serial PRIMARY KEY, order_id integer REFERENCES orders)")
            op.execute("INSERT INTO orders SELECT FROM generate_series(1, 100)")
            op.execute("INSERT INTO items (order_id) SELECT n % 100 + 1 FROM generate_series(1, 500) n")
        """,
}
ALEMBIC_SECOND = """
    from alembic import op

    revision, down_revision = "second", "first"


    def upgrade():
        op.execute("CREATE INDEX items_order ON items (order_id)")
    """
DJANGO = {
    "requirements.txt": "django\ngunicorn\npsycopg[binary]\n",
    "manage.py": """
        import os
        import sys

        from django.core.management import execute_from_command_line

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
        execute_from_command_line(sys.argv)
        """,
    "shop/__init__.py": "",
    "shop/settings.py": """
        import os

        SECRET_KEY = os.environ["SECRET_KEY"]
        ALLOWED_HOSTS = ["*"]
        ROOT_URLCONF = "shop.urls"
        INSTALLED_APPS = ["orders"]
        DATABASES = {
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": os.environ["DB_HOST"],
                "PORT": os.environ["DB_PORT"],
                "NAME": os.environ["DB_NAME"],
                "USER": os.environ["DB_USER"],
                "PASSWORD": os.environ["DB_PASSWORD"],
            }
        }
        """,
    "shop/wsgi.py": """
        import os

        from django.core.management import call_command
        from django.core.wsgi import get_wsgi_application

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
        application = get_wsgi_application()
        call_command("migrate")
        """,
    "shop/urls.py": """
        from django.urls import path

        from orders import views

        urlpatterns = [path("health", views.health), path("count", views.count), path("orders", views.newest)]
        """,
    "orders/__init__.py": "",
    "orders/models.py": """
        from django.db import models


        class Order(models.Model):
            id = models.AutoField(primary_key=True)


        class Item(models.Model):
            id = models.AutoField(primary_key=True)
            order = models.ForeignKey(Order, models.CASCADE, related_name="items")
        """,
    "orders/views.py": """
        from django.http import JsonResponse

        from orders.models import Item, Order


        def health(request):
            return JsonResponse({})


        def count(request):
            return JsonResponse({"count": Item.objects.count()})


        def newest(request):
            orders = Order.objects.order_by("id").prefetch_related("items")[:20]
            return JsonResponse({"orders": [len(order.items.all()) for order in orders]})
        """,
    "orders/migrations/__init__.py": "",
    "orders/migrations/0001_initial.py": """
        from django.db import migrations, models


        class Migration(migrations.Migration):
            initial = True
            operations = [
                migrations.CreateModel("Order", [("id", models.AutoField(primary_key=True))]),
                migrations.CreateModel("Item", [
                    ("id", models.AutoField(primary_key=True)),
                    ("order", models.ForeignKey("orders.Order", models.CASCADE, related_name="items")),
                ]),
                migrations.RunSQL(
                    "INSERT INTO orders_order (id) SELECT n FROM generate_series(1, 100) n;"
                    "INSERT INTO orders_item (order_id) SELECT n % 100 + 1 FROM generate_series(1, 500) n"
                ),
            ]
        """,
}
DJANGO_SECOND = """
    from django.db import migrations


    class Migration(migrations.Migration):
        dependencies = [("orders", "0001_initial")]
        operations = [migrations.RunSQL("CREATE INDEX items_order ON orders_item (order_id)")]
    """


class Migrating(NamedTuple):
    """A repository whose application migrates at its start, and a change of it."""

    files: Mapping[str, str]
    app: dict[str, Any]
    prepare: list[str] | None
    migration: tuple[str, str]  # the file and the text of a second migration
    n_plus_one: tuple[str, str]  # the file, and the text to remove from it
    line: str  # that sends the statements then
    statement: str


APPLICATIONS = {
    "alembic": Migrating(
        ALEMBIC,
        {"asgi": "shop.main:app", "health_path": "/health"},
        None,
        ("shop/migrations/versions/second.py", ALEMBIC_SECOND),
        ("shop/views.py", ".options(selectinload(Order.items))"),
        "return [len(order.items)",
        "FROM items WHERE",
    ),
    "django": Migrating(
        DJANGO,
        {"wsgi": "shop.wsgi:application", "health_path": "/health"},
        ["python", "manage.py", "migrate", "--noinput"],
        ("orders/migrations/0002_index.py", DJANGO_SECOND),
        ("orders/views.py", '.prefetch_related("items")'),
        'return JsonResponse({"orders"',
        'FROM "orders_item" WHERE',
    ),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("framework", cases(APPLICATIONS, slow={"django"}))
def test_migrations_are_not_counted(begun: Project, framework: str) -> None:
    """Each side of a comparison migrates its own database. Only the statements of requests are counted."""
    migrating = APPLICATIONS[framework]
    begun.write("settings.toml", SUITE)

    done = init(begun, migrating.files, "--yes")

    assert done.code == 0, done.output
    settings: dict[str, Any] = settings_of(begun)
    assert (settings["app"], settings.get("prepare")) == (migrating.app, migrating.prepare)
    begun.git("init", "--quiet", "--initial-branch=main")
    begun.commit("Start")
    file, text = migrating.migration
    (begun.root / file).write_text(textwrap.dedent(text))
    file, lost = migrating.n_plus_one
    before = (begun.root / file).read_text()
    assert lost in before
    (begun.root / file).write_text(before.replace(lost, ""))

    done = begun.own_python("-m", "plumbline", "compare", "HEAD", PERF_SERVICES="embedded")

    assert done.code == 1, done.output
    found: dict[str, Any] = {one["key"].partition("::")[2]: one for one in begun.results()["benchmarks"]}
    assert {key: one["verdict"] for key, one in found.items()} == {
        "test_get[/orders]": "regression",
        "test_get[/count]": "pass",
        "test_get[/health]": "pass",
    }
    counts = {name for one in found.values() for name in one["counts"] if name.startswith("postgres.statement ")}
    assert not [name for name in counts if re.search("CREATE|INSERT|ALTER|alembic_version|django_migrations", name)]
    assert "count_changes" not in found["test_get[/count]"]
    executed = [one for one in found["test_get[/orders]"]["count_changes"] if "postgres.statement" in one["name"]]
    changes = [one for one in executed if migrating.statement in one["name"]]
    [grown] = [one for one in changes if one["new"] == 20]  # the other statement reads the items of all orders
    lines = (begun.root / file).read_text().splitlines()
    [number] = [number for number, text in enumerate(lines, 1) if text.strip().startswith(migrating.line)]
    assert (grown["sites"][0]["file"], grown["sites"][0]["line"]) == (file, number)
