"""Redis and PostgreSQL in Docker containers, started by testcontainers."""

import contextlib
import ipaddress
import os
import socket
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from plumbline.processes import host_name, identity, is_running, tree
from plumbline.services.address import Address, own_postgres, own_redis
from plumbline.services.base import HOST, PAUSED, Context, Service, not_ready
from plumbline.services.docker_engine import CALL_LIMIT_S, OWNER_LABEL
from plumbline.services.errors import Unavailable
from plumbline.services.options import Options, postgres_options, redis_config
from plumbline.services.reaper import LABEL

STOP_LIMIT_S = 5
REDIS_COMMAND = "exec docker-entrypoint.sh redis-server - <<END\n$PLUMBLINE_CONFIG\nEND"


class Container(Service):
    """A container with the label of its run."""

    own = True
    _command: list[str]  # [] keeps that of the image
    _stop_signal = "SIGINT"  # on SIGTERM, PostgreSQL would wait for its clients; "" keeps that of the image
    _environ: dict[str, str]
    _published_port = 0  # of this machine, if it has to be known before the container starts
    _opened_by = ""  # the setting with which others can use the server, if they can connect to it

    def __init__(self, name: str, why: str, address: Address, image: str, context: Context) -> None:
        super().__init__(name, "docker", why, address)
        self.image = image
        self.run = context.run
        self._engine = context.engine
        self._port = address.port
        self._container: Any = None
        self._direct = False
        self._main: psutil.Process | None = None  # the container's first process, if it runs on this kernel

    def start(self) -> None:
        client = self._engine.client()
        self._engine.require_image(self.image)
        self.run.add(f"container {self.name}", {"kind": "containers", "engine": os.environ.get("DOCKER_HOST", "")})
        try:
            self._container = self._make(client)
            self._container.start()
            self._locate()
        except Unavailable:
            raise
        except Exception as error:
            raise not_ready(self, "the container can't be started", error, f"try: docker run {self.image}") from None

    def _make(self, client: Any) -> Any:
        """Create the container without starting it."""
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.utils import inside_container

        self._engine.disable_ryuk_if_missing()
        # testcontainers' own classes for these servers do not notice a container that exits.
        client_options = {"timeout": CALL_LIMIT_S, "version": client.api.api_version}
        container = DockerContainer(self.image, docker_client_kw=client_options)
        if self._command:
            container.with_command(self._command)
        for name, value in self._environ.items():
            container.with_env(name, value)
        routed = _routes_to_containers(client)
        self._direct = routed and not self._published_port
        if not self._direct:
            # If the engine is on this machine, publish the port on loopback only.
            local = client.api.base_url.startswith("http+docker://localhost") and (routed or not inside_container())
            if not local and self._published_port:
                reason = f"the engine is on another machine, so the address of {self.name} is not known yet"
                raise Unavailable(reason, "use neither {host} nor {port} in its env and command")
            if not local and self._opened_by:
                reason = f"the engine is on another machine, so {self.name} would be open to the network"
                raise Unavailable(reason, f"set PERF_SERVICES=embedded, or remove {self._opened_by}")
            port = self._published_port or None
            published: dict[str, Any] = {f"{self._port}/tcp": ("127.0.0.1", port) if local else port}
            container.ports = published
        owner = "{}:{pid}:{begun}".format(host_name(), **identity(os.getpid()))
        extra = {"network": "bridge"} if self._direct else {}
        extra |= {"stop_signal": self._stop_signal} if self._stop_signal else {}
        return container.with_kwargs(labels={LABEL: self.run.id, OWNER_LABEL: owner}, **extra)

    def running(self) -> bool:
        if self._container is None:
            return False  # after `stop`, so that `wait_ready` ends
        # Ask the kernel if possible: the engine would still be busy with its answer during the next measurement.
        if self._main is not None:
            return is_running(self._main)
        return self._inspect().get("Status", "") not in {"exited", "dead", "removing"}

    def state(self) -> str:
        found = self._inspect()
        status = found.get("Status", "unknown: the engine doesn't answer" if self._container else "not started")
        if status == "paused":
            return PAUSED
        if status == "exited":
            return f"exited with code {found['ExitCode']}" + (" (out of memory)" if found.get("OOMKilled") else "")
        return str(status)

    def raw_log(self, lines: int) -> str:
        with contextlib.suppress(Exception):
            return str(self._wrapped().logs(tail=lines).decode(errors="replace").rstrip())
        return ""

    def pids(self) -> list[int]:
        # Known only if the engine runs on this kernel.
        with contextlib.suppress(Exception):
            first = self._inspect()["Pid"]
            if self._wrapped().id in Path(f"/proc/{first}/cgroup").read_text(encoding="ascii"):
                return [process.pid for process in tree(first)]
        return []

    def pin(self, cores: Collection[int]) -> None:
        # Some engines refuse. The run reads back whether this worked.
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
        """Start it again. The data stay in the container's file system; the address may change."""
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

    def _thaw(self) -> None:
        if self._inspect().get("Paused"):
            self.resume()

    def _wrapped(self) -> Any:
        return self._container.get_wrapped_container()

    def _inspect(self) -> dict[str, Any]:
        with contextlib.suppress(Exception):
            self._wrapped().reload()
            return dict(self._wrapped().attrs["State"])
        return {}

    def _locate(self) -> None:
        self._wrapped().reload()
        network = self._wrapped().attrs["NetworkSettings"]
        if self._direct:
            host, port = network["Networks"]["bridge"]["IPAddress"], self._port
        elif self._published_port:
            host, port = HOST, self._published_port
        else:
            host = self._container.get_container_host_ip()
            port = int(network["Ports"][f"{self._port}/tcp"][0]["HostPort"])
        self.address = replace(self.address, host=host or self.address.host, port=port)
        self._main = None
        with contextlib.suppress(psutil.Error):
            self._main = next((psutil.Process(pid) for pid in self.pids()), None)


class DockerRedis(Container):
    """Redis in a container."""

    def __init__(self, why: str, context: Context) -> None:
        settings = context.settings.redis
        address = own_redis("localhost", 6379, password=not settings.without_password)
        super().__init__("redis", why, address, settings.image, context)
        self._command = ["sh", "-c", REDIS_COMMAND]
        # Not as arguments: every user of the host could read the password there.
        ours: Options = {"port": address.port, "requirepass": address.password, "daemonize": False}
        # Without a password, protected mode refuses all connections from outside the container.
        protected: Options = {"protected-mode": False} if settings.without_password else {}
        self._environ = {"PLUMBLINE_CONFIG": redis_config({**protected, **settings.config, **ours})}
        if settings.without_password:
            self._opened_by = 'requirepass = "" from [redis.config]' if settings.password else "password from [redis]"


class DockerPostgres(Container):
    """PostgreSQL in a container."""

    def __init__(self, why: str, context: Context) -> None:
        settings = context.settings.postgres
        address = own_postgres(settings, "localhost", 5432)
        super().__init__("postgres", why, address, settings.image, context)
        # Not POSIX shared memory: /dev/shm of a container has 64 MB.
        ours: Options = {"dynamic_shared_memory_type": "mmap"}
        self._command = ["postgres", *postgres_options({**settings.config, **ours})]
        access = {"USER": address.user, "PASSWORD": address.password, "DB": address.database}
        # The data are temporary: initdb need not wait for the disk.
        self._environ = {f"POSTGRES_{name}": value for name, value in access.items()}
        self._environ["POSTGRES_INITDB_ARGS"] = "--no-sync"
        self._opened_by = "password from [postgres]" if settings.password else ""


def _routes_to_containers(client: Any) -> bool:
    """Return whether the containers' bridge is a network interface of this host."""
    with contextlib.suppress(Exception):
        bridge = client.networks.get("bridge").attrs
        subnets = [ipaddress.ip_network(one["Subnet"]) for one in bridge["IPAM"]["Config"]]
        interface = psutil.net_if_addrs()[bridge["Options"]["com.docker.network.bridge.name"]]
        addresses = [ipaddress.ip_address(one.address) for one in interface if one.family == socket.AF_INET]
        return any(address in subnet for address in addresses for subnet in subnets)
    return False
