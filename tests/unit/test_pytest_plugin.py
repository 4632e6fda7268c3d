"""The pytest plugin: inactive without a suite, and active only for tests of a suite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.results.files import read_results

SETTINGS = 'backend = "off"\npin = "off"\n\n[profiles.ci]\nsamples = 10\nwarmup = 1\ntimed_limit_s = 0.1\n'
BENCHMARK = """\
def test_addition(measure, key_prefix):
    for timer in measure():
        with timer:
            sum(range(1000))
    assert key_prefix.startswith("perf:")
"""
PLUGIN = """\
import pytest

@pytest.fixture
def services():
    return "the plugin's"

@pytest.fixture
def measure():
    return "the plugin's"
"""
OUTSIDE = """\
def test_outside(services, measure):
    assert (services, measure) == ("the plugin's", "the plugin's")
"""
HEAVY = ("msgspec", "psutil", "rich", "httpx", "docker", "redis", "asyncpg", "plumbline.services", "plumbline.settings")


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PERF_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a suite of one benchmark, and a plugin with fixtures of the same names."""
    suite = tmp_path / "tests" / "performance"
    suite.mkdir(parents=True)
    (suite / "settings.toml").write_text(SETTINGS)
    (suite / "test_suite.py").write_text(BENCHMARK)
    (tmp_path / "tests" / "test_outside.py").write_text(OUTSIDE)
    (tmp_path / "other_plugin.py").write_text(PLUGIN)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p other_plugin --strict-markers\npythonpath = .\n")
    return tmp_path


def test_importing_the_public_names_of_a_benchmark_loads_no_client_and_no_services() -> None:
    code = "import sys\nfrom plumbline import Budget, Measure, Timer\nprint(*sys.modules)"

    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()

    heavy = {"docker", "testcontainers", "redis", "asyncpg", "httpx", "psutil", "rich", "pytest", "plumbline.services"}
    assert not heavy.intersection(loaded)


def test_the_plugin_loads_nothing_heavy_without_a_suite(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import sys\n\ndef pytest_unconfigure():\n"
        f"    print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )

    done = run(tmp_path, "--collect-only", "-s", "-p", "no:asyncio", "-p", "no:valkey")

    assert "loaded: []" in done.stdout, done.stdout + done.stderr


def test_pytest_rewrites_the_assertions_of_the_suite_and_not_those_of_the_package(project: Path) -> None:
    """Loading rewritten modules would take a tenth of the time of a short run."""
    (project / "tests" / "performance" / "test_suite.py").write_text(
        "import sys\n\ndef test_loaders():\n"
        "    names = [__name__, 'plumbline.suite.run', 'plumbline.services.services']\n"
        "    print('loaders:', [type(sys.modules[name].__loader__).__name__ for name in names])\n"
    )

    done = run(project, "tests/performance", "-s")

    assert "loaders: ['AssertionRewritingHook', 'SourceFileLoader', 'SourceFileLoader']" in done.stdout, done.stdout


def test_without_a_suite_there_is_no_marker_and_no_fixture(tmp_path: Path) -> None:
    markers, fixtures = run(tmp_path, "--markers"), run(tmp_path, "--fixtures")

    assert "@pytest.mark.readiness" not in markers.stdout
    assert "measure" not in fixtures.stdout
    assert "redis_url" not in fixtures.stdout


def test_fixtures_of_another_plugin_win_outside_the_suite_only(project: Path) -> None:
    done = run(project, "tests")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("name", ["conftest.py", "tests/conftest.py"])
def test_a_conftest_above_the_suite_keeps_its_fixtures_outside_and_does_not_shadow_ours(
    project: Path, name: str
) -> None:
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / name).write_text(PLUGIN)

    done = run(project, "tests")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("arguments", [["tests"], ["-c", "tests/performance/pytest.ini", "tests/performance"]])
def test_the_suite_s_own_conftest_overrides_a_fixture(project: Path, arguments: list[str]) -> None:
    suite = project / "tests" / "performance"
    (suite / "pytest.ini").write_text("[pytest]\n")
    (suite / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef key_prefix(key_prefix):\n    return f'perf:own:{key_prefix}'\n"
    )
    (suite / "test_suite.py").write_text(
        BENCHMARK.replace('startswith("perf:")', 'startswith("perf:own:perf:")'),
    )

    done = run(project, *arguments)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("folder", "arguments"),
    [
        (".", ["tests/performance"]),
        (".", ["tests/performance/test_suite.py::test_addition"]),
        ("tests", ["performance"]),
        ("tests/performance", []),
        ("tests/performance", ["-c", "pytest.ini"]),
        ("src", ["../tests/performance"]),
        (".", ["-c", "tests/performance/pytest.ini", "tests/performance"]),
        ("/", ["{root}/tests/performance"]),
    ],
)
def test_the_suite_is_found_from_any_folder_and_keys_are_below_it(
    project: Path, folder: str, arguments: list[str]
) -> None:
    (project / "src").mkdir()
    (project / "tests" / "performance" / "pytest.ini").write_text("[pytest]\n")

    done = run(project / folder, *(argument.replace("{root}", str(project)) for argument in arguments))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "test_suite.py\naddition" in done.stdout


@pytest.mark.parametrize("linked", [".", "tests", "tests/performance", "tests/performance/test_suite.py"])
def test_links_on_the_path_to_a_test_are_the_same_suite(
    project: Path, tmp_path_factory: pytest.TempPathFactory, linked: str
) -> None:
    """The benchmark is the same too. One benchmark of a file is not the whole file."""
    folder = tmp_path_factory.mktemp("moved")
    (project / linked).rename(folder / "moved")
    (project / linked).symlink_to(folder / "moved")
    output = folder / "results.json"

    done = run(project, f"{project}/tests/performance/test_suite.py::test_addition", f"--perf-output={output}")

    assert done.returncode == 0, done.stdout + done.stderr
    record = read_results(output)
    assert [one.key for one in record.benchmarks] == ["test_suite.py::test_addition"]
    assert record.collected_files == []


def test_a_linked_suite_that_cannot_be_imported_is_invalid(project: Path) -> None:
    suite, output = project / "tests" / "performance", project / "results.json"
    (suite / "test_suite.py").write_text("import nothing_here\n")
    suite.rename(project / "moved")
    suite.symlink_to(project / "moved")

    run(project, "tests/performance", f"--perf-output={output}")

    assert [reason.kind for reason in read_results(output).reasons] == ["not_collected"]


@pytest.mark.parametrize("name", ["pytest.ini", "other.txt"])
def test_a_file_that_cannot_be_imported_is_named_from_the_projects_root(project: Path, name: str) -> None:
    """Also if the suite has a configuration of its own, from which pytest counts its paths."""
    suite, output = project / "tests" / "performance", project / "results.json"
    (suite / "test_suite.py").write_text("import nothing_here\n")
    (suite / name).write_text("[pytest]\n")

    run(project, "tests/performance", f"--perf-output={output}")

    assert [reason.subjects for reason in read_results(output).reasons] == [["tests/performance/test_suite.py"]]


def test_markers_are_registered_where_a_suite_is(project: Path) -> None:
    (project / "tests" / "performance" / "test_suite.py").write_text(
        "import pytest\n\n@pytest.mark.readiness\ndef test_ready():\n    pass\n"
    )

    assert "1 passed" in run(project, "-m", "readiness", "tests").stdout
    assert "@pytest.mark.readiness" in run(project, "--markers").stdout


def test_env_has_precedence_over_a_file_that_a_test_loads(project: Path) -> None:
    """Tests import the application, which may load a `.env` file."""
    suite = project / "tests" / "performance"
    (suite / "settings.toml").write_text(f'{SETTINGS}\n[env]\nDSN = "ours"\n')
    (project / ".env").write_text("DSN=theirs\nMORE=theirs\n")
    (suite / "test_suite.py").write_text(
        "import os\nimport dotenv\ndotenv.load_dotenv('.env', override=True)\n\n"
        "def test_variables(monkeypatch):\n"
        "    assert (os.environ['DSN'], os.environ['MORE']) == ('ours', 'theirs')\n"
        "    monkeypatch.setenv('DSN', 'of the test')\n"
        "    assert os.environ['DSN'] == 'of the test'\n"
    )

    done = run(project, "tests/performance")

    assert done.returncode == 0, done.stdout + done.stderr


def test_an_option_of_the_gate_without_a_suite_is_wrong_usage(tmp_path: Path) -> None:
    done = run(tmp_path, f"--perf-output={tmp_path}/results.json")

    assert done.returncode == 4
    assert "there is no tests/performance/settings.toml" in done.stderr


def test_two_suites_in_one_run_are_refused(project: Path) -> None:
    second = project / "service" / "tests" / "performance"
    second.mkdir(parents=True)
    (second / "settings.toml").write_text(SETTINGS)
    (second / "test_second.py").write_text(BENCHMARK)

    done = run(project, "tests", "service", "--import-mode=importlib")

    assert done.returncode == 4, done.stdout + done.stderr
    assert "one performance suite at a time" in done.stderr + done.stdout


def test_a_test_file_deleted_during_the_run_costs_only_its_source(project: Path) -> None:
    """The benchmark has no source and the run continues."""
    suite = project / "tests" / "performance"
    (suite / "test_suite.py").write_text(
        BENCHMARK + f"    import os\n    os.remove({str(suite / 'test_suite.py')!r})\n"
    )

    done = run(project, "tests/performance")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout


def test_an_error_in_recording_costs_one_benchmark(project: Path) -> None:
    (project / "tests" / "performance" / "test_suite.py").write_text(
        BENCHMARK + "\n\ndef test_broken(measure, monkeypatch):\n"
        "    from plumbline.suite import run as recorder\n"
        "    for timer in measure():\n        with timer:\n            sum(range(1000))\n"
        "    real = recorder.warnings_of\n"
        "    def refuse(*_):\n        recorder.warnings_of = real\n        raise RuntimeError('no warnings today')\n"
        "    recorder.warnings_of = refuse\n"
    )

    done = run(project, "tests/performance")

    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "it could not be recorded: RuntimeError: no warnings today" in done.stdout
