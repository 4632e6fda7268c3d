"""The profiler in a real application."""

import textwrap
from pathlib import Path

import httpx
import msgspec

from plumbline.cache import digest
from plumbline.comparing.workers import profiler
from plumbline.comparing.workers.asgi_wrapper import wrapped
from plumbline.comparing.workers.profiler import Profile
from plumbline.comparing.workers.timers import ProfilingTimer
from plumbline.services.application import Application
from plumbline.services.run import ServiceRun
from plumbline.settings import AppSettings, Settings
from tests.support.project import ROOT
from tests.unit.comparing.workers.test_slowed import APPLICATION

LIMIT_S = 30.0
KEY = "test_shop.py::test_total"


def test_an_application_is_profiled_while_it_answers_timed_requests(tmp_path: Path) -> None:
    """With its lifespan; what it answers between timed blocks is left out, and each benchmark has what is its own."""
    (tmp_path / "sample.py").write_text(textwrap.dedent(APPLICATION))
    settings = Settings(app=AppSettings(asgi="sample:make", factory=True))
    wanted = wrapped(settings, profiler.make, str(tmp_path)).app
    assert wanted is not None
    run = ServiceRun()
    run.begin()
    app = Application(wanted, ROOT, {"PYTHONPATH": str(tmp_path), **wanted.env}, run)
    keys = [KEY, "test_shop.py::test_next"]
    try:
        app.start()
        app.wait_ready(LIMIT_S)
        for key in keys:
            timer = ProfilingTimer(key, [], 1, tmp_path)
            for _ in range(3):
                with timer:
                    assert httpx.get(f"{app.address.url}/health").text == "well"
                httpx.get(f"{app.address.url}/health")
            timer.end()
    finally:
        app.stop()
        run.end()
    for key in keys:
        found = msgspec.json.decode((tmp_path / digest(key) / "app.json").read_bytes(), type=Profile)
        health = [seen for part in found.parts for seen in part if seen.name == "health"]
        assert [(Path(seen.file).name, seen.calls) for seen in health] == [("sample.py", 1)] * 3
