"""`plumbline init` proposes made-up rows if routes answer with an empty list."""

from tests.integration.test_init import begun, init, settings_of
from tests.support.project import Project

__all__ = ["begun"]  # a fixture

SHOP = {
    "requirements.txt": "alembic\nasyncpg\nfastapi\nsqlalchemy[asyncio]\n",
    ".env.example": "DATABASE_URL=postgresql+asyncpg://shop:shop@localhost:5432/shop\n",
    "alembic.ini": "[alembic]\nscript_location = migrations\n",
    "migrations/env.py": """
        import asyncio
        import os

        from alembic import context
        from sqlalchemy.ext.asyncio import create_async_engine


        def migrate(connection):
            context.configure(connection=connection)
            with context.begin_transaction():
                context.run_migrations()


        async def main():
            engine = create_async_engine(os.environ["DATABASE_URL"])
            async with engine.begin() as connection:
                await connection.run_sync(migrate)
            await engine.dispose()


        asyncio.run(main())
        """,
    "migrations/versions/0001_first.py": """
        from alembic import op

        revision, down_revision = "0001", None


        def upgrade():
            op.execute("CREATE TYPE status AS ENUM ('open', 'sent')")
            op.execute("CREATE TABLE customer (id serial PRIMARY KEY, email varchar(80) NOT NULL UNIQUE)")
            op.execute(
                "CREATE TABLE orders (id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customer,"
                " status status NOT NULL, archived_at timestamptz, created_at timestamptz NOT NULL DEFAULT now())"
            )
            op.execute(
                "CREATE TABLE item (id serial PRIMARY KEY, order_id int NOT NULL REFERENCES orders, name varchar(40)"
                " NOT NULL, price numeric(8, 2) NOT NULL CHECK (price > 0))"
            )
            op.execute("CREATE TABLE odd (shape polygon NOT NULL)")


        def downgrade():
            pass
        """,
    "shop/__init__.py": "",
    "shop/models.py": """
        from datetime import datetime

        from sqlalchemy import DateTime, Enum, ForeignKey
        from sqlalchemy.ext.asyncio import AsyncAttrs
        from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


        class Base(AsyncAttrs, DeclarativeBase):
            pass


        class Order(Base):
            __tablename__ = "orders"
            id: Mapped[int] = mapped_column(primary_key=True)
            status: Mapped[str] = mapped_column(Enum("open", "sent", name="status"))
            archived_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
            items: Mapped[list["Item"]] = relationship()


        class Item(Base):
            __tablename__ = "item"
            id: Mapped[int] = mapped_column(primary_key=True)
            order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
            name: Mapped[str]
        """,
    "shop/main.py": """
        import os

        from fastapi import FastAPI
        from sqlalchemy import select
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
        from sqlalchemy.orm import selectinload

        from shop.models import Order

        engine = create_async_engine(os.environ["DATABASE_URL"])
        app = FastAPI()


        @app.get("/up")
        async def up():
            return {}


        @app.get("/orders")
        async def orders():
            async with AsyncSession(engine) as session:
                newest = select(Order).options(selectinload(Order.items)).order_by(Order.id.desc()).limit(20)
                return [
                    {"status": one.status, "items": [item.name for item in await one.awaitable_attrs.items]}
                    for one in await session.scalars(newest)
                ]


        @app.get("/orders/archived")
        async def archived():
            async with AsyncSession(engine) as session:
                return [one.id for one in await session.scalars(select(Order).where(Order.archived_at.is_not(None)))]
        """,
}
MIGRATE, SEED = ["alembic", "upgrade", "head"], ["python", "-m", "plumbline.seed"]


def test_rows_make_an_n_plus_one_visible(begun: Project) -> None:
    """The rows are proposed after the migrations, and what stays empty is named. One query per row is a regression."""
    done = init(begun, SHOP, "--yes")

    assert done.code == 0, done.output
    assert settings_of(begun)["prepare"] == [MIGRATE, SEED]
    assert set(begun.verdicts().values()) == {"new"}
    for shown in (
        "a route answers with an empty list: this command writes made-up rows",
        "plumbline.seed leaves a table empty: odd: there is no made-up value for the type polygon of the column shape",
        "Answered with an empty list: GET /orders/archived. Such a benchmark can't show an N+1.",
    ):
        assert shown in done.output
    assert "`prepare` has to write them" not in done.output

    begun.git("init", "--quiet", "--initial-branch=main")
    begun.commit("Start")
    main = begun.root / "shop" / "main.py"
    main.write_text(main.read_text().replace(".options(selectinload(Order.items))", ""))
    done = begun.own_python("-m", "plumbline", "compare", "HEAD", PERF_SERVICES="embedded")

    assert (done.code, begun.verdicts()["test_routes.py::test_get[/orders]"]) == (1, "regression"), done.output
    assert "0 → 20, shop/main.py" in done.output

    assert init(begun, {}).code == 0  # without --yes: there is nothing to agree to
    assert settings_of(begun)["prepare"] == [MIGRATE, SEED]


def test_rows_that_a_route_does_not_accept(begun: Project) -> None:
    """They are left out, with the reason."""
    known = SHOP["shop/models.py"].replace('Enum("open", "sent", name="status")', 'Enum("other", name="status")')
    done = init(begun, {**SHOP, "shop/models.py": known}, "--yes")

    assert settings_of(begun)["prepare"] == MIGRATE
    assert (
        "plumbline.seed was tried and is left out: with its rows, GET /orders does not answer 2xx: 500:" in done.output
    )
