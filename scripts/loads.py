"""Measure `plumbline load`: with an unchanged application, and with a lock that one request at a time can't show."""

import argparse

from scripts.clones import APP, INVALID, PASS, REGRESSION, Clone, cloned, run_sections

SUITE = "tests/performance"
USERS = """\
from locust import FastHttpUser, task


class User(FastHttpUser):
    @task
    def health(self) -> None:
        self.client.get("/health")
"""
BUDGET = '"test_api_benchmarks.py::test_health" = { p95_ms = 20 }\n'  # the pauses would break it
PAUSE_S = 0.05
# One request in ten waits: at once with others in base, and one after another in head.
BASE = (
    ("NAME_LENGTH = 200\n", "NAME_LENGTH = 200\nturns, lock = itertools.count(), asyncio.Lock()\n"),
    ("import asyncio\n", "import asyncio\nimport itertools\n"),
    (
        '    """Report whether PostgreSQL and Redis answer."""\n',
        f'    """Report whether PostgreSQL and Redis answer."""\n'
        f"    if next(turns) % 10 == 0:\n        await asyncio.sleep({PAUSE_S})\n",
    ),
)
HEAD = (
    f"        await asyncio.sleep({PAUSE_S})\n",
    f"        async with lock:\n            await asyncio.sleep({PAUSE_S})\n",
)


def prepare(clone: Clone, rate_per_s: float, duration_s: float) -> None:
    """Add a locustfile and the settings of the load, and commit them."""
    (clone.root / SUITE / "locustfile.py").write_text(USERS, encoding="utf-8")
    with (clone.root / SUITE / "settings.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n[load]\nrate_per_s = {rate_per_s}\nduration_s = {duration_s}\n")
    clone.commit()


def show(clone: Clone, *arguments: str) -> None:
    """Run a command of Plumbline, and print the end of its output."""
    done = clone.run("-m", "plumbline", *arguments, codes=(PASS, REGRESSION, INVALID))
    print("\n".join([*done.output.strip().splitlines()[-20:], f"exit code {done.code}"]), flush=True)


def unchanged(options: argparse.Namespace) -> None:
    """Base and head are equal."""
    with cloned() as clone:
        prepare(clone, options.rate, 30 * options.minutes)
        clone.touch()
        clone.commit()
        for _ in range(options.runs):
            show(clone, "load", "--base", "HEAD~1")


def lock(options: argparse.Namespace) -> None:
    """In head, one request in ten waits for a lock: `compare` measures it, and then `load`."""
    with cloned() as clone:
        clone.edit(APP, *BASE)
        clone.edit(f"{SUITE}/settings.toml", (BUDGET, ""))
        prepare(clone, options.rate, 30 * options.minutes)
        clone.edit(APP, HEAD)
        clone.commit()
        for _ in range(options.runs):
            show(clone, "compare", "HEAD~1", "--", "-k", "test_health")
            show(clone, "load", "--base", "HEAD~1")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.loads",
        description="Measure `plumbline load`: with an unchanged application, and with a lock.",
        epilog="example: python -m scripts.loads unchanged --minutes 10",
    )
    parser.add_argument("--runs", type=int, default=1, help="load tests (default: 1)")
    parser.add_argument("--minutes", type=float, default=2, help="how long the load of both sides lasts (default: 2)")
    parser.add_argument("--rate", type=float, default=160, help="arrivals per second (default: 160)")
    run_sections(parser, {"unchanged": unchanged, "lock": lock})
