"""Applications that pages of the documentation measure but do not show, by page and file."""

MY_SERVICE = {
    "src/my_service/__init__.py": "",
    "src/my_service/main.py": """
        import os
        from contextlib import asynccontextmanager

        import asyncpg
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse
        from starlette.routing import Route


        @asynccontextmanager
        async def lifespan(app):
            async with asyncpg.create_pool(os.environ["SHOP_DB_URL"], min_size=1) as pool:
                yield {"pool": pool}


        async def well(request):
            return JSONResponse("well")


        async def log_in(request):
            return JSONResponse({"token": (await request.json())["name"]})


        async def items(request):
            assert request.headers["Authorization"] == "Bearer ada"
            rows = await request.state.pool.fetch("SELECT * FROM item LIMIT $1", int(request.query_params["limit"]))
            return JSONResponse([dict(row) for row in rows])


        def make_app():
            routes = [Route("/healthz", well), Route("/login", log_in, methods=["POST"]), Route("/items", items)]
            return Starlette(lifespan=lifespan, routes=routes)
    """,
    "src/my_service/prepare.py": """
        import asyncio
        import os

        import asyncpg


        async def prepare():
            connection = await asyncpg.connect(os.environ["SHOP_DB_URL"])
            await connection.execute("CREATE TABLE item AS SELECT n AS id FROM generate_series(1, 1000) n")
            await connection.close()


        asyncio.run(prepare())
    """,
}
DJANGO = {
    "manage.py": """
        import sys

        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)
    """,
    "config/__init__.py": "",
    "config/settings.py": """
        import os

        SECRET_KEY = "only for tests"
        ALLOWED_HOSTS = os.environ["ALLOWED_HOSTS"].split(",")
        ROOT_URLCONF = "config.urls"
        INSTALLED_APPS = ["orders"]
        MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "orders.middleware.stamped"]
        DATABASES = {
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                **{name: os.environ[f"DB_{name}"] for name in ("HOST", "PORT", "NAME", "USER", "PASSWORD")},
                "CONN_MAX_AGE": 600,
            }
        }
        CACHES = {
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": os.environ["CACHE_URL"],
            }
        }
    """,
    "config/wsgi.py": """
        from django.core.wsgi import get_wsgi_application

        application = get_wsgi_application()
    """,
    "config/urls.py": """
        from django.urls import path

        from orders import views

        urlpatterns = [path("healthz/", views.health), path("orders/", views.order_list)]
    """,
    "orders/__init__.py": "",
    "orders/middleware.py": """
        def stamped(get_response):
            def answer(request):
                response = get_response(request)
                response["X-Shop"] = "orders"
                return response

            return answer
    """,
    "orders/models.py": """
        from django.db import models


        class Order(models.Model):
            customer = models.TextField()


        class Item(models.Model):
            order = models.ForeignKey(Order, models.CASCADE, related_name="items")
            name = models.TextField()
    """,
    "orders/views.py": """
        from django.core.cache import cache
        from django.http import JsonResponse

        from orders.models import Order


        def health(request):
            return JsonResponse({"visits": cache.incr("visits")})


        def newest(limit):
            orders = Order.objects.order_by("-id").prefetch_related("items")[:limit]
            return [{"id": order.id, "items": [item.name for item in order.items.all()]} for order in orders]


        def order_list(request):
            return JsonResponse({"orders": newest(20)})
    """,
    "orders/migrations/__init__.py": "",
    "orders/migrations/0001_initial.py": """
        from django.db import migrations, models


        class Migration(migrations.Migration):
            initial = True
            operations = [
                migrations.CreateModel("Order", [
                    ("id", models.AutoField(primary_key=True)),
                    ("customer", models.TextField()),
                ]),
                migrations.CreateModel("Item", [
                    ("id", models.AutoField(primary_key=True)),
                    ("order", models.ForeignKey("orders.Order", models.CASCADE, related_name="items")),
                    ("name", models.TextField()),
                ]),
            ]
    """,
    "orders/management/__init__.py": "",
    "orders/management/commands/__init__.py": "",
    "orders/management/commands/seed.py": """
        from django.core.cache import cache
        from django.core.management import BaseCommand

        from orders.models import Item, Order


        class Command(BaseCommand):
            def handle(self, **options):
                cache.set("visits", 0)
                Order.objects.bulk_create(Order(id=n, customer=f"customer {n % 100}") for n in range(1, 1001))
                Item.objects.bulk_create(Item(id=n, order_id=n % 1000 + 1, name=f"item {n}") for n in range(1, 5001))
    """,
}
FLASK = {
    "src/shop/__init__.py": "",
    "src/shop/web.py": """
        import os

        from flask import Flask, jsonify
        from psycopg.rows import dict_row
        from psycopg_pool import ConnectionPool
        from redis import Redis

        SCHEMA = (
            "CREATE TABLE orders (id integer PRIMARY KEY, customer text NOT NULL);"
            "CREATE TABLE items (id integer PRIMARY KEY, order_id integer NOT NULL, name text NOT NULL);"
            "INSERT INTO orders SELECT n, 'customer ' || n % 100 FROM generate_series(1, 1000) n;"
            "INSERT INTO items SELECT n, n % 1000 + 1, 'item ' || n FROM generate_series(1, 5000) n"
        )
        NEWEST = (
            "SELECT orders.id, array_agg(items.name) AS items FROM orders JOIN items ON items.order_id = orders.id"
            " GROUP BY orders.id ORDER BY orders.id DESC LIMIT 20"
        )


        def create_app():
            app = Flask(__name__)
            pool = ConnectionPool(os.environ["SHOP_DATABASE_URL"], kwargs={"row_factory": dict_row}, open=True)
            app.extensions["pool"] = pool
            cache = Redis.from_url(os.environ["SHOP_REDIS_URL"])

            @app.cli.command("prepare")
            def prepare():
                with pool.connection() as connection:
                    connection.execute(SCHEMA)
                pool.close()

            @app.get("/healthz")
            def health():
                return jsonify(cache.incr("visits"))

            @app.get("/orders")
            def orders():
                with pool.connection() as connection:
                    return jsonify(connection.execute(NEWEST).fetchall())

            return app
    """,
}
SQLALCHEMY = {
    "src/shop/__init__.py": "",
    "src/shop/models.py": """
        from sqlalchemy import ForeignKey
        from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


        class Base(DeclarativeBase):
            pass


        class Order(Base):
            __tablename__ = "orders"
            id: Mapped[int] = mapped_column(primary_key=True)
            items: Mapped[list["Item"]] = relationship()


        class Item(Base):
            __tablename__ = "items"
            id: Mapped[int] = mapped_column(primary_key=True)
            order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    """,
    "src/shop/prepare.py": """
        import asyncio
        import os

        from sqlalchemy import insert
        from sqlalchemy.ext.asyncio import create_async_engine

        from shop.models import Base, Item, Order


        async def prepare():
            engine = create_async_engine(os.environ["SHOP_DATABASE_URL"])
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
                await connection.execute(insert(Order), [{"id": n} for n in range(1, 1001)])
                await connection.execute(insert(Item), [{"id": n, "order_id": n % 1000 + 1} for n in range(1, 5001)])
            await engine.dispose()


        asyncio.run(prepare())
    """,
    "src/shop/main.py": """
        import os
        from contextlib import asynccontextmanager

        from fastapi import FastAPI
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

        from shop import orders

        engine = create_async_engine(os.environ["SHOP_DATABASE_URL"])


        @asynccontextmanager
        async def lifespan(app):
            yield
            await engine.dispose()


        app = FastAPI(lifespan=lifespan)


        @app.get("/health")
        async def health():
            return "ok"


        @app.get("/orders")
        async def order_list():
            async with AsyncSession(engine) as session:
                return [{"id": order.id, "items": len(order.items)} for order in await orders.newest(session, 20)]
    """,
}
APPLICATIONS = {"django.md": DJANGO, "flask.md": FLASK, "sqlalchemy.md": SQLALCHEMY}
