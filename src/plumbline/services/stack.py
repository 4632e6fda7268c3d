"""The other services of a stack, such as a message broker: each is any image in a container, or external."""

import contextlib
import datetime
import importlib.util
import socket
from collections.abc import Sequence
from dataclasses import replace

from plumbline.processes import printable
from plumbline.services.address import Address
from plumbline.services.base import HOST, Context, Service, reserve_port
from plumbline.services.clients import NotYet, probe_http
from plumbline.services.docker import Container
from plumbline.services.errors import Unavailable
from plumbline.services.external import check_allowed
from plumbline.services.redaction import redactor, secrets_in
from plumbline.settings import ServiceSettings, address_variable

# Where Docker forwards a published port, it accepts connections before the server listens, and closes them at once.
CLOSED_WITHIN_S = 0.25


class _Probed(Service):
    """A server of an unknown kind: it is ready if it answers on its port and, in a container, has said so."""

    _settings: ServiceSettings

    def answer(self, limit_s: float) -> None:
        at = self.address
        try:
            if self._settings.ready.startswith("/"):
                probe_http(replace(at, scheme="http").url + self._settings.ready, limit_s)
                return
            with socket.create_connection((at.host, at.port), limit_s) as connection:
                connection.settimeout(min(limit_s, CLOSED_WITHIN_S))
                with contextlib.suppress(TimeoutError):  # it waits for the client to begin
                    if not connection.recv(1):
                        raise ConnectionResetError("the connection was closed at once")
        except ConnectionError as error:
            raise NotYet(f"{error}: {self._nobody_listens()}") from None

    def probe(self, limit_s: float) -> str:
        self.answer(limit_s)
        return ""

    def advice(self, error: BaseException) -> str:
        del error
        return ""  # while it starts, it may answer anything

    def _nobody_listens(self) -> str:
        return f"nothing listens on port {self.address.port}"


class DockerService(Container, _Probed):
    """A service in a container. `key`: its name in settings.toml; a side of a comparison has a name of its own."""

    _stop_signal = ""
    _reserved: socket.socket | None = None  # holds the port until the container takes it

    def __init__(self, name: str, key: str, context: Context) -> None:
        settings = context.settings.services[key]
        super().__init__(
            name, "set in settings.toml", Address("tcp", "localhost", settings.port), settings.image, context
        )
        self._key = key
        self._settings = settings
        used = [*settings.command, *settings.env.values()]
        if any(name in one for one in used for name in ("{host}", "{port}")):
            self._reserved = reserve_port(0)
            self._published_port = self._reserved.getsockname()[1]

        def filled(text: str) -> str:
            return text.replace("{host}", HOST).replace("{port}", str(self._published_port))

        self._command = [*map(filled, settings.command)]
        self._environ = {variable: filled(value) for variable, value in settings.env.items()}
        self.advice_at_limit = (
            f"read its last output above; check `port` and `ready` of [services.{key}], or raise its ready_limit_s"
        )

    def start(self) -> None:
        try:
            self._engine.client()
        except Unavailable as error:
            raise Unavailable(str(error), _without_engine(self._key)) from None
        try:
            self._engine.require_image(self.image)
        except Unavailable as error:
            raise Unavailable(str(error), f"pull the image, or correct `image` of [services.{self._key}]") from None
        if self._reserved:
            self._reserved.close()
        super().start()

    def probe(self, limit_s: float) -> str:
        text = self._settings.ready
        if not text.startswith("/") and text not in self._output():
            raise NotYet(f"no line of its output contains {text!r}")
        self.answer(limit_s)
        return self.image  # in the place of a version

    def advice_at_exit(self) -> str:
        return f"read its last output above; check `env` and `command` of [services.{self._key}] in settings.toml"

    def redact(self, text: str) -> str:
        return redactor(frozenset(secrets_in(self._environ)))(text) if text else text

    def _output(self) -> str:
        """Return its output since its last start."""
        with contextlib.suppress(Exception):
            # Not since its start: the engine takes that time when the container may have printed something already.
            ended = datetime.datetime.fromisoformat(self._inspect()["FinishedAt"]).timestamp()  # in the year 1: never
            return printable(self._wrapped().logs(since=ended if ended > 0 else None).decode(errors="replace"))
        return ""

    def _nobody_listens(self) -> str:
        text = f"nothing listens on port {self._settings.port} in the container"
        with contextlib.suppress(Exception):
            declared = sorted(self._wrapped().attrs["Config"]["ExposedPorts"])
            text += f"; its image declares {', '.join(declared)}"
        return text


class SharedService(_Probed):
    """A service that the coordinator of a comparison has started."""

    def __init__(self, name: str, address: Address, context: Context) -> None:
        super().__init__(name, "shared", "started by the comparison", address)
        self._settings = context.settings.services[name]


class ExternalService(_Probed):
    """A service that already runs, by host and port."""

    def __init__(self, name: str, context: Context) -> None:
        variable = address_variable(name)
        host, _, port = context.settings.external_urls[name].rpartition(":")
        host = host.strip("[]")
        check_allowed(host, variable, context.settings)
        super().__init__(name, "external", f"{variable} is set", Address("tcp", host, int(port)))
        settings = context.settings.services[name]
        self._settings = settings
        self.advice_at_limit = f"check that it runs and that {variable} is right"
        self.advice_if_silent = f"check that it still runs, and that {variable} is right; then run again"
        self._stopped = False

    def running(self) -> bool:
        return not self._stopped  # so that `wait_ready` ends

    def stop(self) -> None:
        self._stopped = True


def _without_engine(name: str) -> str:
    """Return what to do next if no container can be started."""
    missing = importlib.util.find_spec("testcontainers") is None
    start = "install pytest-plumbline[docker]" if missing else "start Docker"
    return f"{start}, or set {address_variable(name)} to the host:port of one that runs"


def why_missing(name: str, context: Context) -> str:
    """Return why a service can't run here, or "" if it can."""
    settings = context.settings
    if name in settings.external_urls:
        return ""
    if settings.services[name].backend == "auto":
        try:
            context.engine.client()
        except Unavailable as error:
            return f"{error}: {_without_engine(name)}"
    return ""


def plan(name: str, context: Context, sides: Sequence[str]) -> list[Service]:
    """Create a service without starting it: for both `sides` of a comparison, or for a run if there are none.

    The workers of a comparison connect to external services themselves.
    """
    if name in context.settings.external_urls:
        return [] if sides else [ExternalService(name, context)]
    each = sides if context.settings.services[name].each_side else ()
    return [DockerService(one, name, context) for one in (f"{name}-{side}" for side in each)] or [
        DockerService(name, name, context)
    ]
