"""The README, followed word by word in the repository of a FastAPI service that knows nothing of Plumbline."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.support.documentation import without_figures
from tests.support.project import ROOT, Done
from tests.support.repository import Repository
from tests.template.copies import LITTLE, Copy, copier, write_files

README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES = 150
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SHOP = {
    ".gitignore": "perf-results/\n.nox/\n__pycache__/\n",
    "pyproject.toml": """
        [project]
        name = "shop"
        version = "1.0"
        requires-python = ">=3.11"
        dependencies = ["asyncpg", "fastapi", "pydantic-settings", "redis", "uvicorn"]

        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"
        """,
    "src/shop/__init__.py": "",
    "src/shop/main.py": """
        from contextlib import asynccontextmanager

        import asyncpg
        from fastapi import FastAPI, Request
        from pydantic_settings import BaseSettings
        from redis.asyncio import Redis


        class Settings(BaseSettings):
            database_url: str
            redis_url: str


        @asynccontextmanager
        async def lifespan(app: FastAPI):
            settings = Settings()
            async with asyncpg.create_pool(settings.database_url, min_size=1) as pool:
                await pool.execute("CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, name text)")
                async with Redis.from_url(settings.redis_url) as redis:
                    yield {"pool": pool, "redis": redis}


        app = FastAPI(lifespan=lifespan)


        @app.get("/health")
        async def health(request: Request):
            return await request.state.redis.ping()


        @app.get("/orders")
        async def orders(request: Request):
            return [dict(row) for row in await request.state.pool.fetch("SELECT id, name FROM orders")]
        """,
}


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(README) if found == language]


def commands(text: str) -> list[list[str]]:
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def test_length() -> None:
    assert len(README.splitlines()) <= MOST_LINES


def test_commands_of_this_repository() -> None:
    """Its pipeline runs the commands that need a clone of this repository."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    first, *_ = blocks("console")

    for program, *command in commands(first):
        assert program in ("git", "cd") or shlex.join(command) in steps


@pytest.fixture
def shop(tmp_path: Path) -> Copy:
    repository = Copy(tmp_path / "shop")
    write_files(repository.root, SHOP)
    repository.begin("A shop")
    return repository


@pytest.mark.timeout(300)
def test_quick_start(shop: Copy, template: Repository) -> None:
    """All other commands in their order, with the README's benchmark and no other edit."""
    [benchmark], [shown] = blocks("python"), blocks("text")
    outputs = {}
    for words in [words for text in blocks("console")[1:] for words in commands(text)]:
        match words:
            case ["uvx", "copier", "copy", "PLUMBLINE", "."]:
                done = copier("copy", "--defaults", "--vcs-ref=v0.1.0", str(template.root), ".", cwd=shop.root)
                # Little is measured. All that the application needs, the next command has to find.
                shop.write("settings.toml", f"[profiles.ci]\n{LITTLE}\n[gate]\nbaseline_processes = 3\n")
            case ["uvx", "copier", *arguments]:
                shop.commit("A benchmark")  # Copier updates only what is committed
                done = copier(*arguments, cwd=shop.root)
            case ["uvx", "nox", "-s", "init"]:
                done = shop.nox("init", "--yes")  # nobody is there to answer
            case ["uvx", "nox", "-s", session, *arguments]:
                if "test_orders" in arguments:
                    shop.write("test_orders.py", benchmark.partition("\n")[2])
                done = shop.nox(session, *arguments[1:])
            case ["git", *arguments]:
                done = Done(0, shop.git(*arguments))
            case _:
                pytest.fail(f"nobody runs {words}")
        assert done.code == 0, done.output
        outputs[shlex.join(words)] = done.output
    assert len(outputs) > 5
    routes = (shop.suite / "test_routes.py").read_text(encoding="utf-8")
    assert '"/health"' in routes
    assert '"/orders"' in routes
    printed = [without_figures(line) for line in outputs["uvx nox -s ci -- -k test_orders"].splitlines()]
    assert [line for line in shown.splitlines() if without_figures(line) not in printed] == []
