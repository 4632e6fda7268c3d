"""`plumbline load` refuses wrong calls before it starts anything; and its starter."""

import importlib.util
from pathlib import Path

import pytest

from plumbline import cli

SETTINGS = 'backend = "off"\nready_limit_s = 1\n'
LOCUSTFILE = "from locust import FastHttpUser, task\n"


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_home: Path) -> Path:
    """The suite of the project in the current folder."""
    assert cache_home.is_dir()
    folder = tmp_path / "tests" / "performance"
    folder.mkdir(parents=True)
    (folder / "settings.toml").write_text(SETTINGS)
    (folder / "locustfile.py").write_text(LOCUSTFILE)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "message"),
    [
        ([], "[load]\nrate = 5\n", 2, "unknown key 'rate' in [load]; did you mean 'rate_per_s'?"),
        ([], "[load]\nrate_per_s = -5\n", 2, "load.rate_per_s: Expected `float` > 0"),
        ([], "[load.budgets]\np99 = 5\n", 2, "unknown key 'p99' in [load.budgets]; did you mean 'p99_ms'?"),
        ([], "[[load.stages]]\nrate_per_s = 5\n", 2, "duration_s"),
        ([], "", 3, "there is no [app] in settings.toml"),
        (["--host", "http://shop.example"], "", 2, 'set allow_external = ["shop.example"]'),
        (["--host", "http://127.0.0.1:9"], "", 3, "app is not ready"),
        (["--host", "http://127.0.0.1:9", "--base", "main"], "", 2, "--base needs applications"),
        (["--workers-from", "5557"], "", 2, "--workers-from needs HOST:PORT"),
        (["--workers", "2"], "", 2, "--workers-from needs HOST:PORT"),
        (["--alone", "--base", "main"], "", 2, "--alone goes without --base"),
        (["--base", "nowhere"], "", 2, "not a git repository"),
    ],
)
def test_bad_input(
    suite: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], settings: str, code: int, message: str
) -> None:
    (suite / "settings.toml").write_text(SETTINGS + settings)
    assert cli.main(["load", *arguments]) == code
    shown = capsys.readouterr()
    assert message in " ".join((shown.out + shown.err).split())


def test_a_wrong_option_keeps_the_results_of_an_earlier_run(suite: Path) -> None:
    earlier = suite.parents[1] / "perf-results" / "load.json"
    earlier.parent.mkdir()
    earlier.touch()
    assert cli.main(["load", "--host", "http://shop.example"]) == 2
    assert earlier.exists()


def test_a_file_in_place_of_the_results_folder(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (suite.parents[1] / "perf-results").touch()
    assert cli.main(["load"]) == 3
    assert "can't be written" in capsys.readouterr().err


def test_without_locust(suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite.is_dir()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert cli.main(["load"]) == 2
    assert "add the extra `load` of pytest-plumbline in tests/performance/requirements.txt" in capsys.readouterr().err


def test_a_starter_has_the_routes_of_the_starter_benchmarks(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (suite / "locustfile.py").unlink()
    assert cli.main(["load"]) == 2
    assert "nox -s load -- --starter" in capsys.readouterr().err
    (suite / "test_routes.py").write_text('ROUTES = [\n    "/items",\n    "/it\\"ems",\n]\n')
    assert cli.main(["load", "--starter"]) == 0
    written = (suite / "locustfile.py").read_text()
    compile(written, "locustfile.py", "exec")
    assert 'self.client.get("/items")' in written
    assert 'self.client.get("/it\\"ems")' in written
    assert cli.main(["load", "--starter"]) == 2
    assert (suite / "locustfile.py").read_text() == written
