"""The applications under load: that of the working tree, that of the base beside it, or an external one."""

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from plumbline.comparing.trees.sides import Side, Sides, python_path
from plumbline.comparing.workers.pair_servers import PairServers, pair_servers
from plumbline.measuring.cpu_affinity import set_precedence
from plumbline.services.base import Service
from plumbline.services.errors import NotReady
from plumbline.services.services import Services
from plumbline.settings import Settings


@dataclass(frozen=True)
class Target:
    """An application that is ready."""

    side: str
    services: Services
    servers: Sequence[Service] = ()  # that it shares with the other side

    @property
    def url(self) -> str:
        assert self.services.app is not None
        return self.services.app.address.url.rstrip("/")

    @property
    def shown(self) -> str:
        """Its address without the password."""
        assert self.services.app is not None
        return self.services.app.address.shown

    def environment(self) -> dict[str, str]:
        """Return the environment of Locust: that of the tests."""
        changed = {**os.environ, **self.services.environment()}
        return {name: value for name, value in changed.items() if value is not None}

    def check_alive(self) -> None:
        """Raise NotReady if the application, a server or a process has ended, or used another server."""
        for service in self._all():
            if not service.running():
                message = service.death_message("lower the rate to see if the load is the cause")
                raise NotReady(self.services.scrub(f"in {self.side}: {message}"))
        self.services.check_connections()

    def pin(self, cores: Collection[int]) -> None:
        """Restrict the application, its processes and servers to these cores, but none of somebody else."""
        for service in self._all():
            if service.own:
                service.pin(cores)

    def _all(self) -> list[Service]:
        return [*self.services.running(), *self.servers]


class NoApplication(Exception):
    """There is no application to put load on. The message says why."""


@contextlib.contextmanager
def one_target(settings: Settings, root: Path) -> Iterator[list[Target]]:
    """Start the services and the application of the working tree. Raises NotReady, ServiceError, NoApplication."""
    services = Services(settings, root)
    try:
        set_precedence([os.getpid()], ahead=True)  # the application and Locust inherit it
        services.begin()
        yield [_started("head", services)]
    finally:
        set_precedence([os.getpid()], ahead=False)
        services.stop()


@contextlib.contextmanager
def both_targets(settings: Settings, root: Path, sides: Sides) -> Iterator[list[Target]]:
    """Start the servers, and the application of base and of head beside each other, each with databases of its own.

    Raises NotReady, ServiceError, NoApplication, ComparisonInvalid.
    """
    if settings.app:
        settings = replace(settings, app=replace(settings.app, port=0))
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(pair_servers(settings, root, None, {}))
        servers.make(0)
        targets = []
        for side in (sides.base, sides.head):
            services = _services_of(side, sides, settings, servers)
            stack.callback(services.stop)
            services.begin()
            targets.append(_started(side.name, services, servers.running()))
        yield targets


def _services_of(side: Side, sides: Sides, settings: Settings, servers: PairServers) -> Services:
    addresses, path = servers.addresses(side.name, 0), python_path(side, sides)

    def environ_of(_name: str, _command: object, environ: Mapping[str, str]) -> Mapping[str, str]:
        given = environ.get("PYTHONPATH", "").split(os.pathsep)
        return {**environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys([*given, *path.split(os.pathsep)]))}

    return Services(
        settings,
        side.root,
        shared=addresses,
        key_prefix=f"perf:{side.name}:" if "redis" in addresses else "",
        app_python=str(side.app.python if side.app else side.python),
        child_environ=environ_of,
    )


def _started(side: str, services: Services, servers: Sequence[Service] = ()) -> Target:
    services.wait_ready()
    services.start_application()
    if services.app is None:
        raise NoApplication(services.skipped.get("app", "there is no [app] in settings.toml"))
    return Target(side, services, servers)
