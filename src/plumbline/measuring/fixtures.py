"""The fixtures for the tests of a suite. Other tests don't see them."""

import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from plumbline.measuring.context import RunContext
from plumbline.measuring.loop import Measure
from plumbline.services.address import Address
from plumbline.services.base import Service
from plumbline.services.services import Services
from plumbline.settings import nearest

NAMES = ("services", "redis_url", "postgres_url", "api_url", "service_address", "key_prefix", "measure")

_CONTEXT = pytest.StashKey[RunContext]()
_START_MEASURE = pytest.StashKey[Callable[[pytest.Item], Measure]]()


def provide(context: RunContext, start_measure: Callable[[pytest.Item], Measure]) -> None:
    """Set the services and the measurements that the fixtures return in this process."""
    config = context.config
    config.stash[_CONTEXT], config.stash[_START_MEASURE] = context, start_measure
    if config.rootpath == context.suite:  # all tests of this process belong to the suite
        config.pluginmanager.register(sys.modules[__name__], "plumbline-fixtures")


def declare(collector: pytest.Collector) -> None:
    """Declare the fixtures for all tests below a collector.

    The suite's own conftest.py can override them; plugins and conftest.py files of outer folders cannot.
    """
    if collector.path == collector.config.rootpath:
        return
    holder = ModuleType(__name__)  # pytest reads the fixtures of each module only once
    holder.__dict__.update({name: globals()[name] for name in NAMES})
    manager = collector.session._fixturemanager
    if hasattr(pytest, "register_fixture"):  # pytest 9.1 or later
        manager.parsefactories(holder=holder, node=collector)
        return
    manager.parsefactories(holder, collector.nodeid)
    for name in NAMES:
        definitions = manager._arg2fixturedefs[name]  # type: ignore[attr-defined]
        first = next(i for i, one in enumerate(definitions) if one.baseid == collector.nodeid)
        definitions.insert(first, definitions.pop())  # the suite's conftest.py, if already read, has precedence


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest) -> Services:
    """The running services, with addresses and states. A service that this run started can be paused and killed."""
    return request.config.stash[_CONTEXT].services


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """URL of the Redis server, with its password."""
    return _url(request, "redis")


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """URL of this run's own PostgreSQL database, with its password."""
    return _url(request, "postgres")


@pytest.fixture(scope="session")
def api_url(request: pytest.FixtureRequest) -> str:
    """URL of the application."""
    return _url(request, "app")


@pytest.fixture(scope="session")
def service_address(request: pytest.FixtureRequest) -> Callable[[str], Address]:
    """`service_address("NAME")` returns the address of a service of `[services]`, with `host` and `port`."""
    services = request.config.stash[_CONTEXT].services

    def address(name: str) -> Address:
        if name not in services.stack and name not in services.skipped:
            raise ValueError(f"there is no [services.{name}] in settings.toml{nearest(name, services.stack)}")
        return _running(request, name, services.stack.get(name)).address

    return address


@pytest.fixture(scope="session")
def key_prefix(request: pytest.FixtureRequest) -> str:
    """The prefix of every Redis key of this run."""
    return request.config.stash[_CONTEXT].services.key_prefix


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Iterator[Measure]:
    """The measurement of a benchmark: `for timer in measure(): with timer: …`."""
    measure = request.config.stash[_START_MEASURE](request.node)
    yield measure
    measure.close()


def _url(request: pytest.FixtureRequest, name: str) -> str:
    return _running(request, name, getattr(request.config.stash[_CONTEXT].services, name)).address.url


def _running(request: pytest.FixtureRequest, name: str, service: Service | None) -> Service:
    """Return the service; skip the test if there is none."""
    if service is None:
        context = request.config.stash[_CONTEXT]
        reason = context.services.skipped.get(name, f"{name} is not configured")
        is_missing = name in context.services.unavailable
        skip = pytest.skip.Exception(f"{name}: {reason}" if is_missing else f"off: {reason}")
        (context.missing_skips if is_missing else context.off_skips).append(skip)
        raise skip
    return service
