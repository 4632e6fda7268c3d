"""Bad input to `nox -s ci`: clear errors, documented exit codes, and no lost data."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.project import SETTINGS, STEADY_SETTINGS, Project

BUDGETS = """
[budgets]
"test_suite.py::test_addition" = { p95_ms = 1000 }
"test_suite.py::test_sorting" = { p95_ms = 1000 }
"""

# The first words of pytest: without them, nothing was measured.
STARTED = "test session starts"

COUNTING_SUITE = """\
from pathlib import Path

from plumbline import Measure

ROUNDS = Path(__file__).with_name("rounds.txt")


def test_counted(measure: Measure) -> None:
    for timer in measure(samples=50, warmup=50):
        with timer, ROUNDS.open("a") as file:
            file.write("round\\n")


async def test_counted_in_a_loop(measure: Measure) -> None:
    async for timer in measure():
        with timer, ROUNDS.open("a") as file:
            file.write("round\\n")
"""


SKIPPED_READINESS = """\
import pytest

@pytest.mark.readiness
@pytest.mark.skip
def test_ready():
    pass
"""


def damaged(**fields: object) -> Callable[[str], str]:
    """Set fields of the first benchmark of a baseline."""

    def damage(text: str) -> str:
        baseline = json.loads(text)
        baseline["benchmarks"][0] |= fields
        return json.dumps(baseline)

    return damage


def newer(text: str) -> str:
    """Return the baseline as a later version writes it."""
    return text.replace('"schema": 2', '"schema": 3')


def without_benchmarks(text: str) -> str:
    """Return the baseline without benchmarks."""
    return json.dumps(json.loads(text) | {"benchmarks": []})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: "", "is empty"),
        (lambda text: text[: len(text) // 2], "is not a results file"),
        (lambda text: f"<<<<<<< HEAD\n{text}", "is not a results file"),
        (lambda _: "[1, 2]", "is not a results file"),
        (newer, "has schema 3, but this version of Plumbline reads 2: update Plumbline"),
        (damaged(median=-1e-6), "damaged or was edited by hand"),
        (damaged(median=float("nan")), "is not a results file"),
        (damaged(process_medians=[1e-6]), "needs the medians of at least two processes"),
        (damaged(process_medians=[1e-6, 0.0, 1e-6]), "needs the medians of at least two processes"),
        (without_benchmarks, "has no benchmarks"),
        (lambda text: text.replace('"median"', '"median": 1, "median"', 1), "has the field 'median' twice"),
    ],
    ids=[
        "empty",
        "truncated",
        "conflict",
        "list",
        "newer",
        "negative",
        "NaN",
        "one-process",
        "zero",
        "no-benchmark",
        "twice",
    ],
)
def test_an_unusable_baseline_is_refused(recorded: Project, damage: Callable[[str], str], message: str) -> None:
    """Before anything is measured. The message names the file, which stays unchanged, and the next step."""
    path = recorded.baseline()
    bad = damage(path.read_text(encoding="utf-8"))
    path.write_text(bad, encoding="utf-8")

    done = recorded.run("ci")

    assert done.code == 3, done.output
    assert STARTED not in done.output
    assert f"{path} " in done.output.replace(":", " ")
    assert message in done.output
    assert "nox -s baseline" in done.output
    assert "Traceback" not in done.output
    assert path.read_text(encoding="utf-8") == bad


def test_plain_pytest_reports_an_unusable_baseline(recorded: Project) -> None:
    """It judges nothing, so it passes."""
    recorded.baseline().write_text("", encoding="utf-8")

    done = recorded.python("-m", "pytest", "tests/performance")

    assert done.code == 0, done.output
    assert f"{recorded.baseline()} is empty" in done.output


def test_a_results_folder_that_can_t_be_written_is_refused(project: Project) -> None:
    """Before anything is measured."""
    (project.root / "perf-results").write_text("a file in the folder's place", encoding="utf-8")

    done = project.run("ci")

    assert done.code == 3, done.output
    assert STARTED not in done.output
    assert f"{project.root / 'perf-results'}" in done.output
    assert "can't be written" in done.output


# ---- settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[profiles.ci]\nsmaples = 20", ["unknown key 'smaples'", "[profiles.ci]", "did you mean 'samples'"]),
        ('backend = "dokcer"', ["backend", "'dokcer'", "did you mean 'docker'"]),
        ('test_limit_s = "long"', ["test_limit_s", "Expected `float`, got `str`"]),
        ("[profiles.ci]\nsamples = 2.5\nwarmup = 1\ntimed_limit_s = 1", ["profiles.ci.samples", "Expected `int`"]),
        ('[budgets]\n"a.py::a" = { p95 = 2 }', ["unknown key 'p95'", "did you mean 'p95_ms'"]),
        ("backend = off", ["can't be read", "line 1"]),
    ],
    ids=["unknown key", "unknown choice", "wrong type", "wrong type in a table", "unknown budget", "not TOML"],
)
def test_invalid_settings_are_refused(project: Project, text: str, message: list[str]) -> None:
    """The message names the key and the nearest valid one."""
    project.write("settings.toml", text)

    done = project.run("ci")

    assert done.code == 2, done.output
    assert STARTED not in done.output
    assert "Traceback" not in done.output
    for words in ("settings.toml", *message):
        assert words in done.output


def test_missing_settings_are_refused(project: Project) -> None:
    """The message says where they belong."""
    (project.suite / "settings.toml").unlink()

    done = project.run("ci")

    assert done.code == 2, done.output
    assert f"expected at {project.suite / 'settings.toml'}" in done.output


def test_an_invalid_variable_is_refused_under_its_own_name(project: Project) -> None:
    """The message names the variable, not the valid setting in the file."""
    done = project.run("ci", PERF_SERVICES="dcoker")

    assert done.code == 2, done.output
    assert "PERF_SERVICES" in done.output
    assert "did you mean 'docker'" in done.output


@pytest.mark.parametrize("arguments", [(), ("-k", "sorting"), ("-x",)], ids=["all", "deselected", "ended early"])
def test_a_budget_of_a_benchmark_that_does_not_exist_is_refused(project: Project, arguments: tuple[str, ...]) -> None:
    """Before anything is measured, and with the nearest valid name."""
    project.write("settings.toml", SETTINGS + BUDGETS.replace("addition", "additoin"))

    done = project.run("ci", *arguments)

    assert done.code == 2, done.output
    assert "'test_suite.py::test_additoin', but there is no such benchmark" in done.output
    assert "did you mean 'test_suite.py::test_addition'?" in done.output
    assert "test_sorting'" not in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("-k", "sorting"),
        ("-x",),
        ("tests/performance/test_suite.py::test_sorting",),
        ("tests/performance/test_other.py",),
    ],
)
def test_a_budget_of_a_benchmark_that_was_not_selected_is_valid(project: Project, arguments: tuple[str, ...]) -> None:
    """It may be deselected, not reached, or in a file that was only partly collected."""
    project.write("settings.toml", SETTINGS + BUDGETS)
    project.write("test_other.py", "def test_fails(measure):\n    for timer in measure():\n        assert False\n")

    done = project.run("ci", *arguments)

    assert done.code in (0, 1, 3), done.output
    assert "no such benchmark" not in done.output


def test_budgets_are_valid_if_the_collection_is_interrupted(project: Project) -> None:
    """Their benchmarks were not collected yet."""
    project.write("settings.toml", SETTINGS + BUDGETS)
    project.write("conftest.py", "def pytest_itemcollected():\n    raise KeyboardInterrupt\n")

    done = project.run("ci")

    assert done.code == 130, done.output
    assert "no such benchmark" not in done.output


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="nothing is pinned here")
def test_a_core_that_is_not_allowed_is_refused(project: Project) -> None:
    """Otherwise nothing would be pinned, and every result inconclusive."""
    done = project.run("ci", PERF_PIN="7000")

    assert done.code == 2, done.output
    assert "pin: this process may not use core 7000; it may use " in done.output


def test_plain_pytest_refuses_settings_as_the_gate_does(project: Project) -> None:
    """With the same message and exit code, and no traceback."""
    project.write("settings.toml", 'bakcend = "off"')

    done = project.python("-m", "pytest", "tests/performance")

    assert done.code == 2, done.output
    assert "unknown key 'bakcend'; did you mean 'backend'?" in done.output
    assert "Traceback" not in done.output


def test_an_unknown_profile_is_refused(project: Project) -> None:
    """The message lists the profiles."""
    done = project.python("-m", "plumbline", "ci", "--profile=fulll")

    assert done.code == 2, done.output
    assert "no profile 'fulll'" in done.output
    assert "did you mean 'full'" in done.output


# ---- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--no-such-option",), "unrecognized arguments: --no-such-option"),
        (("tests/performance/test_suite.py::test_nothing",), "not found"),
        (("tests/performance/test_nothing.py",), "file or directory not found"),
        (("--pdb",), "with a debugger"),
    ],
    ids=["option", "node id", "file", "debugger"],
)
def test_arguments_that_pytest_refuses_are_wrong_usage(
    project: Project, arguments: tuple[str, ...], message: str
) -> None:
    """pytest's message is shown, and the last results stay."""
    last = project.root / "perf-results" / "results.json"
    last.parent.mkdir()
    last.write_text("{}")

    done = project.nox("ci", *arguments)

    assert done.code == 2, done.output
    assert message in done.output
    assert last.read_text() == "{}"


def test_a_conftest_that_can_t_be_imported_is_invalid(project: Project) -> None:
    """Like a test file that cannot be imported. Results of an earlier run are not used."""
    (project.root / "perf-results").mkdir()
    (project.root / "perf-results" / "results.json").write_text("{}")
    project.write("conftest.py", "import no_such_module\n")

    done = project.run("ci")

    assert done.code == 3, done.output
    assert "No module named 'no_such_module'" in done.output
    assert "a conftest.py can't be imported (see above)" in done.output
    assert not (project.root / "perf-results" / "results.json").exists()


def test_an_expression_that_selects_nothing_is_invalid(project: Project) -> None:
    """A run that measured nothing never passes."""
    done = project.run("ci", "-k", "nothing_of_that_name")

    assert done.code == 3, done.output
    assert "INVALID: nothing was measured" in done.output
    assert "nox -s readiness" not in done.output
    assert "the arguments selected no test" in done.output


def test_a_run_that_only_collects_is_invalid(project: Project) -> None:
    """It measured nothing either."""
    done = project.run("ci", "--collect-only")

    assert done.code == 3, done.output
    assert "INVALID: nothing was measured" in done.output
    assert "nox -s readiness" not in done.output


def test_a_suite_without_benchmarks_is_invalid(project: Project) -> None:
    """Other tests alone are not enough."""
    project.write("test_suite.py", "def test_hygiene() -> None: ...\n")

    done = project.run("ci")

    assert done.code == 3, done.output
    assert "INVALID: nothing was measured" in done.output
    assert "nox -s readiness" not in done.output


def test_a_file_that_exits_when_it_is_imported_is_named(project: Project) -> None:
    """Every report names the line, without a traceback through pytest."""
    project.write("test_exits.py", "import sys\n\nsys.exit(0)\n")

    done = project.run("ci")

    assert done.code == 3, done.output
    assert "INVALID: tests/performance/test_exits.py, line 3, exits with sys.exit(0)" in done.output
    assert "INTERNALERROR" not in done.output


def test_a_run_that_can_start_no_more_threads_ends_with_its_cause(project: Project) -> None:
    """As under `ulimit -u`, which does not apply to root."""
    project.write(
        "test_exits.py",
        """\
import sys
import threading


def refuse(_thread):
    raise RuntimeError("can't start new thread")


threading.Thread.start = refuse
sys.exit(0)
""",
    )

    done = project.run("ci")

    assert done.code == 3, done.output
    assert "INVALID: tests/performance/test_exits.py, line 10, exits with sys.exit(0)" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("text", "message"),
    [("import no_such_package\n", "No module named 'no_such_package'"), ("def test_a(:\n", "SyntaxError")],
    ids=["import", "syntax"],
)
def test_a_file_that_can_t_be_imported_is_invalid(project: Project, text: str, message: str) -> None:
    """The error is shown, also in the report."""
    project.write("test_broken.py", text)

    done = project.run("ci")

    assert done.code == 3, done.output
    assert "INVALID: tests/performance/test_broken.py can't be collected" in done.output
    report = (project.root / "perf-results" / "report.md").read_text(encoding="utf-8")
    for text in (done.output.partition("INVALID")[2], report):
        assert message in text.replace("&#95;", "_").replace("\\", "")
    assert "nox -s readiness" not in done.output


# ---- meaningless timings


def test_the_gate_refuses_xdist(project: Project) -> None:
    """Concurrent processes would slow each other down."""
    done = project.own_python("-m", "plumbline", "ci", "--", "-n", "2")

    assert done.code == 2, done.output
    assert "the gate can't run under pytest-xdist (-n)" in done.output
    assert STARTED not in done.output


def test_the_gate_refuses_coverage(project: Project) -> None:
    """A tracer slows each line down."""
    output = project.root / "results.json"

    done = project.own_python("-m", "coverage", "run", "-m", "pytest", "tests/performance", f"--perf-output={output}")

    assert done.code == 4, done.output  # of pytest: wrong usage
    assert "the gate can't run under coverage" in done.output
    assert not output.exists()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (["pytest"], ["-n", "2"], "under pytest-xdist (-n)"),
        (["coverage", "run", "-m", "pytest"], [], "under coverage"),
        (["pytest"], ["--pdb"], "with a debugger"),
    ],
    ids=["xdist", "coverage", "debugger"],
)
def test_plain_pytest_runs_each_benchmark_once_and_untimed(
    project: Project, before: list[str], after: list[str], message: str
) -> None:
    """Benchmarks pass as tests, budgets are not judged, and the output says so."""
    project.write("settings.toml", STEADY_SETTINGS + '\n[budgets]\n"test_suite.py::test_counted" = { p95_ms = 1e-6 }\n')
    project.write("test_suite.py", COUNTING_SUITE)

    done = project.own_python("-m", *before, "tests/performance", *after)

    assert done.code == 0, done.output
    assert "2 passed" in done.output
    assert f"each benchmark ran once and untimed, because pytest runs {message}" in done.output
    assert (project.suite / "rounds.txt").read_text(encoding="utf-8").splitlines() == ["round"] * 2


def test_collecting_only_starts_nothing(project: Project, tmp_path: Path) -> None:
    """No server, no reaper and no record of a run."""
    project.write("settings.toml", STEADY_SETTINGS.replace('backend = "off"', 'backend = "embedded"'))
    cache = tmp_path / "cache"

    done = project.python("-m", "pytest", "tests/performance", "--collect-only", XDG_CACHE_HOME=str(cache))

    assert done.code == 0, done.output
    assert "2 tests collected" in done.output
    assert "embedded" not in done.output
    assert not cache.exists()


# ---- readiness


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        ("def test_plain():\n    pass\n", 'invalid: there are no readiness tests (marker "readiness")'),
        (SKIPPED_READINESS, "invalid: all readiness tests were skipped"),
    ],
    ids=["none", "skipped"],
)
def test_readiness_without_a_readiness_test_is_not_ready(project: Project, suite: str, message: str) -> None:
    """Nothing was tested."""
    project.write("test_suite.py", suite)

    done = project.run("readiness")

    assert done.code == 3, done.output
    assert message in done.output
    assert "ready: 0" not in done.output


@pytest.mark.parametrize("ends", ["", "; return", "; raise SystemExit"])
def test_a_forked_child_that_comes_back_is_ended(project: Project, ends: str) -> None:
    """It would run the rest of the suite, remove what fixtures have made, and write results of its own."""
    project.write(
        "test_forks.py",
        f"""\
import os
import pathlib

import pytest

children = []


@pytest.fixture
def noted():
    yield
    with pathlib.Path("torn-down").open("a") as file:
        file.write("once")


def test_forks(measure, noted):
    for timer in measure():
        with timer:
            if not children:
                children.append(os.fork())
                if not children[0]:
                    pass{ends}
    os.waitpid(children[0], 0)
""",
    )

    done = project.run("ci")

    assert done.code == 0, done.output
    assert (project.root / "torn-down").read_text() == "once"
    assert done.output.count("Exit code 0") == 1
