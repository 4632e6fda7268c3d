"""The pytest plugin: options, markers, and the start of a suite run when a suite is collected.

Every pytest process of the environment imports this module, so it imports the rest of the package only when needed.
"""

import contextlib
import sys
from argparse import SUPPRESS
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from plumbline.project import NOT_IMPORTED, SUITE, find_project, find_suite, is_suite

MARKERS = {
    "full": "runs in the full profile only",
    "disruptive": "pauses or kills services: runs after all other tests",
    "unpinned": "for concurrent code: the full profile measures it on all cores instead of one",
    "readiness": "checks a service: `nox -s readiness` runs these tests",
    "timeout": "the time limit of a test in seconds; 0 for none",  # pytest-timeout's, which may be switched off
    # Known, so that its error can say what to do.
    "django_db": "belongs to pytest-django: Plumbline fails tests with this marker, see the docs on Django",
}
_SUITE = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("performance")
    group.addoption("--perf-profile", default="ci", help="profile of settings.toml: ci (default) or full")
    group.addoption("--perf-memory", action="store_true", help="count memory, as the profile full does")
    # For the commands: the path of the results, the socket of a worker of a comparison, a table of the services, and
    # the shard to run.
    group.addoption("--perf-output", help=SUPPRESS)
    group.addoption("--perf-worker", type=int, help=SUPPRESS)
    group.addoption("--perf-table", action="store_true", help=SUPPRESS)
    group.addoption("--perf-shard", help=SUPPRESS)
    group.addoption("--perf-again", action="store_true", help=SUPPRESS)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """Report to the gate that a conftest.py cannot be imported, in contrast to an error in the arguments."""
    try:
        return (yield)
    except Exception as error:
        output = getattr(early_config.known_args_namespace, "perf_output", None)
        if output and not isinstance(error, pytest.UsageError):
            Path(output).with_suffix(NOT_IMPORTED).touch()
        raise


def pytest_configure(config: pytest.Config) -> None:
    root = find_project(config.invocation_params.dir, config.rootpath)
    if root is not None:
        _add_markers(config)
    is_controlled = config.getoption("--perf-output") or config.getoption("--perf-worker") is not None
    if is_controlled or is_suite(config.rootpath):
        suite = find_suite(config.rootpath, *((root / SUITE,) if root else ()))
        if suite is None:
            advice = "start in the repository of the suite, or copy one with Copier"
            raise pytest.UsageError(f"there is no {SUITE}/settings.toml in this folder or above it: {advice}")
        _start(config, suite)


@pytest.hookimpl(tryfirst=True)
def pytest_collectstart(collector: pytest.Collector) -> None:
    """Start the suite run when pytest collects the suite's folder."""
    if isinstance(collector, pytest.Directory) and is_suite(collector.path):
        suite = collector.config.stash.get(_SUITE, None) or _start(collector.config, collector.path)
        if suite.resolve() != collector.path.resolve():
            raise pytest.UsageError(f"pytest can run one performance suite at a time: {suite} or {collector.path}")
        from plumbline.measuring.fixtures import declare

        declare(collector)


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter", config: pytest.Config) -> None:
    """Explain missing timings under pytest-xdist, whose workers run the suite."""
    if getattr(config.option, "numprocesses", None):
        files = {report.nodeid.partition("::")[0] for report in terminalreporter.stats.get("passed", [])}
        if any(find_suite(config.rootpath / file) for file in files):
            terminalreporter.write_line(
                "each benchmark ran once and untimed, because pytest runs under pytest-xdist (-n)"
            )


def _start(config: pytest.Config, suite: Path) -> Path:
    _add_markers(config)
    file_number = config.getoption("--perf-worker")
    if file_number is not None:
        with _not_rewritten():
            from plumbline.comparing.workers.worker import Worker

        config.pluginmanager.register(Worker(config, suite, file_number))
    else:
        with _not_rewritten():
            from plumbline.suite.run import SuiteRun

        config.pluginmanager.register(SuiteRun(config, suite))
    config.stash[_SUITE] = suite
    return suite


@contextlib.contextmanager
def _not_rewritten() -> Iterator[None]:
    """Import modules without pytest's rewriting of assertions, which loads them more slowly."""
    finders = enumerate([*sys.meta_path])
    hooks = [(place, one) for place, one in finders if type(one).__module__ == "_pytest.assertion.rewrite"]
    for _, hook in hooks:
        sys.meta_path.remove(hook)
    try:
        yield
    finally:
        for place, hook in hooks:
            sys.meta_path.insert(place, hook)


def _add_markers(config: pytest.Config) -> None:
    known = {line.partition(":")[0].partition("(")[0].strip() for line in config.getini("markers")}
    for name, meaning in MARKERS.items():
        if name not in known:
            config.addinivalue_line("markers", f"{name}: {meaning}")
