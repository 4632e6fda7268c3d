"""Measure how counts of memory differ between runs of the same code: `python -m scripts.memory --help`."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter as Tally
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import permutations, product
from pathlib import Path

from plumbline.counting import families
from plumbline.counting.counter import Counter, Round
from plumbline.judging.counts import compare_counts
from plumbline.results.files import read_results
from plumbline.results.schema import Benchmark, Counts
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
from scripts.clones import ROOT, run_sections

SETTINGS = "tests/performance/settings.toml"
PROFILE = """
[profiles.memory]
samples = 7
warmup = 5
timed_limit_s = 0.001
"""
SHOP = {
    SETTINGS: """
prepare = ["python", "-m", "shop"]
env.SHOP_URL = "postgresql+asyncpg://{postgres.user}:{postgres.password}@{postgres.host}:{postgres.port}/{postgres.database}"
redis.backend = "off"

[app]
asgi = "shop:app"
""",
    "tests/performance/test_shop.py": """
from collections.abc import AsyncIterator

import httpx
import pytest

from plumbline import Measure


@pytest.fixture(scope="session")
async def shop(api_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api_url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", ["/health", "/orders/7", "/orders?limit=5", "/orders?limit=100"])
async def test_get(shop: httpx.AsyncClient, path: str, measure: Measure) -> None:
    async for timer in measure():
        with timer:
            response = await shop.get(path)
        assert response.is_success


async def test_create(shop: httpx.AsyncClient, measure: Measure) -> None:
    async for timer in measure():
        with timer:
            response = await shop.post("/orders", json={"name": "tea", "lines": [{"n": n} for n in range(20)]})
        assert response.status_code == 201
""",
    "shop.py": """
import asyncio
import os

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    lines: Mapped[list["Line"]] = relationship()


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    n: Mapped[int]


class LineModel(BaseModel, from_attributes=True):
    n: int


class OrderModel(BaseModel, from_attributes=True):
    name: str
    lines: list[LineModel]


engine = create_async_engine(os.environ.get("SHOP_URL", "postgresql+asyncpg://"))
session = async_sessionmaker(engine)
app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "well"}


@app.get("/orders/{id}")
async def order(id: int) -> OrderModel:
    async with session() as s:
        found = await s.scalars(select(Order).where(Order.id == id).options(selectinload(Order.lines)))
        return OrderModel.model_validate(found.one())


@app.get("/orders")
async def orders(limit: int) -> list[OrderModel]:
    async with session() as s:
        query = select(Order).order_by(Order.id).limit(limit).options(selectinload(Order.lines))
        return [OrderModel.model_validate(one) for one in await s.scalars(query)]


@app.post("/orders", status_code=201)
async def create(order: OrderModel) -> int:
    async with session.begin() as s:
        s.add(made := Order(name=order.name, lines=[Line(n=line.n) for line in order.lines]))
        await s.flush()
        return made.id


async def prepare() -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    async with session.begin() as s:
        s.add_all(Order(name=f"order {n}", lines=[Line(n=k) for k in range(5)]) for n in range(100))
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(prepare())
""",
}
SHARES = (0.005, 0.01, 0.02, 0.03, 0.05)
EXTRAS = {families.ALLOCATIONS: (1, 2, 5, 10), families.PEAK_BYTES: (1024, 4096, 8192, 16384, 65536)}

# By benchmark and count, its values by round.
Replay = Mapping[str, Mapping[str, Sequence[float]]]


def pytest_configure() -> None:
    """Count memory alone, and allow nothing, so that results have the values of all rounds: for the suites' pytest."""
    families.MEMORY.update(dict.fromkeys(families.MEMORY, (0.0, 0.0)))
    Counter._count_servers = nothing  # type: ignore[method-assign,assignment]


def nothing(*_: object) -> Generator[Round, None, Counts]:
    yield from ()
    return Counts()


def memory(options: argparse.Namespace) -> None:
    """Run the suites in fresh processes, and print the false positives among all pairs of runs by allowance."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="perf-memory-"))
        file = stack.enter_context(options.file.open("a", encoding="utf-8"))
        suites = list(make_suites(Path(folder)))
        servers = Services(load_settings(suites[0] / SETTINGS), suites[0], environ={})
        stack.callback(servers.stop)
        servers.begin()
        servers.wait_ready()
        assert servers.redis
        assert servers.postgres
        os.environ["PERF_REDIS_URL"], os.environ["PERF_DATABASE_URL"] = (
            servers.redis.address.url,
            servers.postgres.address.url,
        )
        done = sum(1 for _ in options.file.open(encoding="utf-8"))
        for number in range(done, options.runs):
            replay: dict[str, Mapping[str, Sequence[float]]] = {}
            for suite in suites:
                replay |= {one.key: rounds_of(one) for one in run(suite, seed=number)}
            file.write(json.dumps(replay) + "\n")
            file.flush()
    report([json.loads(line) for line in options.file.read_text(encoding="utf-8").splitlines()])


def make_suites(folder: Path) -> Iterator[Path]:
    """Yield a copy of this repository, and a FastAPI application with SQLAlchemy."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "sample")], check=True)
    for name, text in SHOP.items():
        path = folder / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip(), encoding="utf-8")
    for name in ("pyproject.toml", "scripts"):
        (folder / "shop" / name).symlink_to(ROOT / name)
    for name in ("sample", "shop"):
        settings = folder / name / SETTINGS
        text = settings.read_text(encoding="utf-8").replace("test_limit_s = 30\n", "")
        settings.write_text(f"test_limit_s = 300\n{text}{PROFILE}", encoding="utf-8")
        yield folder / name


def run(suite: Path, seed: int) -> Sequence[Benchmark]:
    output = suite / "results.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "scripts.memory", "-k", "(benchmarks or shop) and not 500_"]
    command += ["--perf-profile=memory", "--perf-memory", f"--perf-output={output}", "tests/performance"]
    environment = os.environ | {"PYTHONHASHSEED": str(seed)}
    done = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{suite.name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return read_results(output).benchmarks


def rounds_of(one: Benchmark) -> dict[str, Sequence[float]]:
    values = {**{name: [count] for name, count in one.counts.items()}, **one.counts_varying}
    return {name: rounds for name, rounds in values.items() if families.is_memory(name)}


def report(replays: Sequence[Replay]) -> None:
    """Print by allowance the false positives when a benchmark of each run is compared with that of each other run."""
    for kind, extras in EXTRAS.items():
        print(f"{kind}: false positives of {len(replays) * (len(replays) - 1)} pairs of runs, with their benchmarks")
        for share, extra in product(SHARES, extras):
            families.MEMORY[kind] = share, float(extra)
            wrong = Tally(key for one, other in permutations(replays, 2) for key in grown(one, other, kind))
            compared = sum(len(one.keys() & other.keys()) for one, other in permutations(replays, 2))
            print(f"  {share:.1%} + {extra}: {wrong.total()} of {compared} {dict(wrong.most_common(3))}")


def grown(one: Replay, other: Replay, kind: str) -> Iterator[str]:
    """Yield the benchmarks that would fail if the second run were a change of the first."""
    for key in one.keys() & other.keys():
        if any(change.gated for change in compare_counts(counts_of(one[key], kind), counts_of(other[key], kind))):
            yield key


def counts_of(values: Mapping[str, Sequence[float]], kind: str) -> Counts:
    same, varying = dict[str, float](), dict[str, list[float]]()
    for name, rounds in values.items():
        if name.endswith(f".{kind}"):
            if all(rounds) and families.same_count(name, rounds):
                same[name] = max(rounds)
            else:
                varying[name] = [*rounds]
    return Counts(same, varying, [f"{process}.{families.ALLOCATIONS}" for process in ("test", "app", "worker")])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.memory",
        description="Measure how counts of memory differ between runs of the same code, by allowance.",
        epilog="example: python -m scripts.memory --runs 40",
    )
    parser.add_argument("--runs", type=int, default=40, help="runs in fresh processes (default: 40)")
    parser.add_argument("--file", type=Path, default=Path("memory.jsonl"), help="the values, to continue from")
    run_sections(parser, {"memory": memory})
