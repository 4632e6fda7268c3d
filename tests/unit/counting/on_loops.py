"""Applications on the event loops of asyncio and uvloop, and the counts of a request to them."""

import contextlib
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx

from plumbline.counting.counter import Counter
from plumbline.results.schema import Counts
from plumbline.services.services import Services
from tests.unit.counting.conftest import Pass, started

LOOPS = ["asyncio", "uvloop"]
SETTINGS = """\
backend = "off"
counts.memory = {memory}

[app]
command = ["python", "-m", "uvicorn", "shop:app", "--host", "{{host}}", "--port", "{{port}}", "--loop", "{loop}"]
"""


@contextlib.contextmanager
def served(root: Path, application: str, loop: str, *, memory: bool = False) -> Iterator[Services]:
    """Serve an application, whose code goes to `shop.py`. `memory`: whether its memory is counted."""
    (root / "shop.py").write_text(textwrap.dedent(application), encoding="utf-8")
    settings = SETTINGS.format(loop=loop, memory=str(memory).lower())
    (root / "settings.toml").write_text(settings, encoding="utf-8")
    with started(root) as services:
        yield services


async def counted(services: Services, path: str) -> Counts:
    """Count a request, after some that are not counted."""
    assert services.app is not None
    with closing(Counter(services)) as counter:
        async with httpx.AsyncClient(base_url=services.app.address.url, trust_env=False) as client:
            for _ in range(3):
                await client.get(path)
            rounds = Pass(counter)
            for timer in rounds:
                with timer:
                    (await client.get(path)).raise_for_status()
        assert counter.notes == []
    return rounds.counts
