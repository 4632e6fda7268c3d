"""Servers in containers, by testcontainers. Every call to the engine is bounded."""

import abc
import contextlib
import importlib.util
import ipaddress
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psutil

from plumbline.services.address import Address
from plumbline.services.base import Context, Service
from plumbline.services.embedded import Options, postgres_options, redis_config
from plumbline.services.readiness import describe, not_ready
from plumbline.services.reaper import LABEL, alive
from plumbline.services.service_run import host_name, identity

ENGINE_LIMIT_S = 2.0
CALL_LIMIT_S = 15
PULL_LIMIT_S = 120.0
STOP_LIMIT_S = 5
POLL_S = 0.1
OWNER_LABEL = f"{LABEL}-owner"
REDIS_COMMAND = "exec docker-entrypoint.sh redis-server - <<END\n$PLUMBLINE_CONFIG\nEND"

T = TypeVar("T")


class Engine:
    """The Docker engine, looked for once for all services of a run."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._answer: tuple[Any, str] | None = None
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """Leave a pull that is under way to the engine: the run ends."""
        self._given_up.set()

    def client(self) -> tuple[Any, str]:
        """A client of docker-py, or None and why there is none; never takes much longer than ENGINE_LIMIT_S."""
        with self._lock:
            if self._answer is None:
                self._answer = _find_engine()
                if self._answer[0] is not None:
                    self._sweep(self._answer[0])
            return self._answer

    def image_missing(self, name: str) -> str:
        """Pull the image if need be; returns why it can't be had, or "" where it is there."""
        import docker.errors
        from testcontainers.core.config import testcontainers_config

        client, _ = self.client()
        name = testcontainers_config.hub_image_name_prefix + name
        try:
            client.images.get(name)
        except docker.errors.ImageNotFound:
            try:
                within(PULL_LIMIT_S, lambda: client.images.pull(name), self._given_up)
            except Exception as error:
                return f"the image {name} isn't there and can't be pulled: {describe(error)}"
        except Exception as error:
            return f"the engine can't look for the image {name}: {describe(error)}"
        return ""

    def do_without_ryuk_where_missing(self) -> None:
        """Testcontainers' own reaper is welcome, but what can't be pulled shall not keep us from starting."""
        from testcontainers.core.config import testcontainers_config as config

        with self._lock:
            if not config.ryuk_disabled and self.image_missing(config.ryuk_image):
                config.ryuk_disabled = True

    def _sweep(self, client: Any) -> None:
        """Remove containers of runs on this machine whose process has ended."""
        with contextlib.suppress(Exception):
            for container in client.containers.list(all=True, filters={"label": OWNER_LABEL}, ignore_removed=True):
                host, pid, created = container.labels[OWNER_LABEL].rsplit(":", 2)
                if host == host_name() and not alive(int(pid), float(created)):
                    with contextlib.suppress(Exception):
                        container.remove(force=True, v=True)

    def close(self) -> None:
        """Give the connections back."""
        if self._answer and self._answer[0] is not None:
            self._answer[0].close()
            self._answer = None


class _Docker(Service, abc.ABC):
    """What both have in common: a container with the run's label, affected by the shortest way."""

    inner_port: int

    def __init__(self, name: str, why: str, address: Address, image: str, context: Context) -> None:
        super().__init__(name, "docker", why, address)
        self.image = image
        self.run = context.run
        self._engine = context.engine
        self._container: Any = None
        self._direct = False
        self._main: psutil.Process | None = None
        """The container's first process, where it is on this kernel."""

    def start(self) -> None:
        client, why_not = self._engine.client()
        missing = why_not or self._engine.image_missing(self.image)
        if missing:
            raise not_ready(self, missing, None, _advice_on_engine(missing))
        self.run.add(f"container {self.name}", {"kind": "containers", "engine": os.environ.get("DOCKER_HOST", "")})
        try:
            self._direct = _routes_to_containers(client)
            self._engine.do_without_ryuk_where_missing()
            self._container = self._make({"timeout": CALL_LIMIT_S, "version": client.api.api_version})
            self._container.waiting_for(None)  # we wait ourselves, with an eye on the container
            labels = {
                LABEL: self.run.id,
                OWNER_LABEL: "{}:{pid}:{created}".format(host_name(), **identity(os.getpid())),
            }
            extra = {"network": "bridge"} if self._direct else {}
            # PostgreSQL's image says so itself, others may not: on SIGTERM it would wait for clients to go.
            self._container.with_kwargs(labels=labels, stop_signal="SIGINT", **extra)
            self._container.ports = {} if self._direct else _published(client, self.inner_port)
            self._container.start()
            self._locate()
        except Exception as error:
            raise not_ready(self, "the container can't be started", error, f"try: docker run {self.image}") from None

    def running(self) -> bool:
        # Not once it is stopped either: then waiting for it ends.
        return self._container is not None and self._inspect().get("Status", "") not in {"exited", "dead", "removing"}

    def alive(self) -> bool:
        """As the kernel sees it, where it does: an engine that was asked is still busy when the next test measures."""
        if self._main is None:
            return self.running()
        with contextlib.suppress(psutil.Error):
            return self._main.is_running() and self._main.status() != psutil.STATUS_ZOMBIE
        return False

    def state(self) -> str:
        found = self._inspect()
        status = found.get("Status", "unknown: the engine doesn't answer" if self._container else "not started")
        if status == "paused":
            return "stopped by a signal (paused)"
        if status == "exited":
            return f"exited with code {found['ExitCode']}" + (" (out of memory)" if found.get("OOMKilled") else "")
        return str(status)

    def log_tail(self, lines: int = 20) -> str:
        with contextlib.suppress(Exception):
            text = self._wrapped().logs(tail=lines).decode(errors="replace")
            return self.address.redact(text.rstrip())
        return ""

    def pids(self) -> list[int]:
        """Only where the engine's processes are to be seen from here: on the same kernel."""
        with contextlib.suppress(Exception):
            first = psutil.Process(self._inspect()["Pid"])
            if self._wrapped().id in Path(f"/proc/{first.pid}/cgroup").read_text(encoding="ascii"):
                return [first.pid, *(child.pid for child in first.children(recursive=True))]
        return []

    def pin(self, cores: Collection[int]) -> None:
        # Refused by some engines: then it stays free, and reading back says so.
        with contextlib.suppress(Exception):
            self._wrapped().update(cpuset_cpus=",".join(map(str, sorted(cores))))

    def pause(self) -> None:
        self._wrapped().pause()

    def resume(self) -> None:
        self._wrapped().unpause()

    def kill(self) -> None:
        if self.running():
            self._thaw()
            self._wrapped().kill()
            self._wrapped().wait(timeout=CALL_LIMIT_S)

    def restart(self) -> None:
        """Data stay, in the container's own file system; the address may change."""
        self._thaw()
        self._wrapped().restart(timeout=STOP_LIMIT_S)
        self._locate()

    def stop(self) -> None:
        if self._container is None:
            return
        container, self._container = self._container, None
        with contextlib.suppress(Exception):
            container.stop()
            self.run.forget(f"container {self.name}")

    @abc.abstractmethod
    def _make(self, client_options: dict[str, Any]) -> Any:
        """The container, not started yet."""

    def _thaw(self) -> None:
        if self._inspect().get("Paused"):
            self.resume()

    def _wrapped(self) -> Any:
        return self._container.get_wrapped_container()

    def _inspect(self) -> dict[str, Any]:
        with contextlib.suppress(Exception):
            self._wrapped().reload()
            state: dict[str, Any] = self._wrapped().attrs["State"]
            return state
        return {}

    def _locate(self) -> None:
        """Find the address: a restart may have changed it."""
        if self._direct:
            self._wrapped().reload()
            host = self._wrapped().attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            port = self.inner_port
        else:
            host = self._container.get_container_host_ip()
            port = int(self._container._get_exposed_port(self.inner_port))
        self.address = replace(self.address, host=host or self.address.host, port=port)
        self._main = None
        with contextlib.suppress(psutil.Error):
            self._main = next((psutil.Process(pid) for pid in self.pids()), None)


class DockerRedis(_Docker):
    """Redis in a container."""

    inner_port = 6379

    def __init__(self, why: str, context: Context) -> None:
        address = Address("redis", "localhost", self.inner_port, password=secrets.token_urlsafe(24), database="0")
        super().__init__("redis", why, address, context.settings.redis.image, context)
        self.key_prefix = context.key_prefix
        self._config = context.settings.redis.config

    def _make(self, client_options: dict[str, Any]) -> Any:
        from testcontainers.community.redis import RedisContainer

        ours: Options = {"port": self.inner_port, "requirepass": self.address.password, "daemonize": False}
        container = RedisContainer(self.image, docker_client_kw=client_options)
        # Not as an argument, where everyone on the host would see the password.
        container.with_env("PLUMBLINE_CONFIG", redis_config({**self._config, **ours}))
        return container.with_command(["sh", "-c", REDIS_COMMAND])


class DockerPostgres(_Docker):
    """PostgreSQL in a container."""

    inner_port = 5432

    def __init__(self, why: str, context: Context) -> None:
        password = secrets.token_urlsafe(24)
        address = Address("postgresql", "localhost", self.inner_port, user="perf", password=password, database="perf")
        super().__init__("postgres", why, address, context.settings.postgres.image, context)
        self._config = context.settings.postgres.config

    def _make(self, client_options: dict[str, Any]) -> Any:
        from testcontainers.community.postgres import PostgresContainer

        class Unwaited(PostgresContainer):
            """Testcontainers would run psql in the container until its own time is up, exited or not."""

            def _connect(self) -> None:
                pass

        container = Unwaited(
            self.image,
            username=self.address.user,
            password=self.address.password,
            dbname=self.address.database,
            driver=None,
            docker_client_kw=client_options,
        )
        container.with_env("POSTGRES_INITDB_ARGS", "--no-sync")  # it is thrown away anyway
        return container.with_command(["postgres", *postgres_options(self._config)])


def within(limit_s: float, work: Callable[[], T], given_up: threading.Event | None = None) -> T:
    """Do the work in a thread of its own; raises TimeoutError when it takes longer, and leaves it to itself.

    The same as soon as `given_up` is set.
    """
    outcome: list[T | BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    deadline_s = time.monotonic() + limit_s
    while thread.is_alive() and (left_s := deadline_s - time.monotonic()) > 0 and not (given_up and given_up.is_set()):
        thread.join(min(left_s, POLL_S) if given_up else left_s)
    if not outcome:
        raise TimeoutError(f"no answer within {limit_s:g} s")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _find_engine() -> tuple[Any, str]:
    if importlib.util.find_spec("testcontainers") is None:
        return None, "the package testcontainers is missing"
    from testcontainers.core.docker_client import get_docker_host

    try:
        version = within(ENGINE_LIMIT_S, lambda: _api_version(get_docker_host() or "unix:///var/run/docker.sock"))
    except TimeoutError:
        return None, f"the Docker engine doesn't answer within {ENGINE_LIMIT_S:g} s"
    except PermissionError:
        return None, "the Docker engine's socket is closed to this user"
    except Exception:
        return None, "no Docker engine answers"
    return _client(version, CALL_LIMIT_S), ""


def _client(version: str, limit_s: float) -> Any:
    """A client as testcontainers makes them. With the API's version given it asks the engine nothing yet."""
    from testcontainers.core.docker_client import DockerClient

    return DockerClient(version=version, timeout=limit_s).client


def _api_version(host: str) -> str:
    scheme, _, path = host.partition("://")
    if scheme == "unix" and hasattr(socket, "AF_UNIX"):
        # Tried by ourselves first: docker-py leaves a socket open where nobody answers.
        with socket.socket(socket.AF_UNIX) as attempt:
            attempt.settimeout(ENGINE_LIMIT_S)
            attempt.connect(path)
    import requests

    client = _client("1.24", ENGINE_LIMIT_S * 0.8)
    with contextlib.closing(client):
        try:
            return str(client.api.version(api_version=False)["ApiVersion"])
        except requests.exceptions.ReadTimeout as error:
            raise TimeoutError from error


def _advice_on_engine(problem: str) -> str:
    if "image" in problem:
        return "pull the image, correct its name in settings.toml, or use embedded"
    if "closed" in problem:
        return "add the user to the group docker, or use embedded"
    return "start Docker, or use embedded"


def _routes_to_containers(client: Any) -> bool:
    """Whether the bridge that containers hang on is an interface of this very host."""
    with contextlib.suppress(Exception):
        bridge = client.networks.get("bridge").attrs
        subnets = [ipaddress.ip_network(one["Subnet"]) for one in bridge["IPAM"]["Config"]]
        interface = psutil.net_if_addrs()[bridge["Options"]["com.docker.network.bridge.name"]]
        addresses = [ipaddress.ip_address(one.address) for one in interface if one.family == socket.AF_INET]
        return any(address in subnet for address in addresses for subnet in subnets)
    return False


def _published(client: Any, port: int) -> dict[str, Any]:
    """The port on loopback only, where the engine is on this machine."""
    from testcontainers.core.utils import inside_container

    local = client.api.base_url.startswith("http+docker://localhost") and not inside_container()
    return {f"{port}/tcp": ("127.0.0.1",) if local else None}
