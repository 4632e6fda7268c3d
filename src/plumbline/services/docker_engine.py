"""The connection of a run to the Docker engine, with time limits."""

import contextlib
import importlib.util
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

from plumbline.processes import alive, host_name, identity
from plumbline.services.errors import Unavailable, describe
from plumbline.services.reaper import LABEL

ENGINE_LIMIT_S = 2.0
CALL_LIMIT_S = 15
PULL_LIMIT_S = 120.0
OWNER_LABEL = f"{LABEL}-process"

T = TypeVar("T")


class Engine:
    """One client of the Docker engine for all servers of a run."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._client: Any = None
        self._unavailable: Unavailable | None = None
        self.given_up: Future[None] = Future()  # done when the run ends: `require_image` stops waiting for a pull

    def client(self) -> Any:
        """Return a docker-py client. Raises Unavailable within about ENGINE_LIMIT_S."""
        with self._lock:
            if self._client is None and self._unavailable is None:
                try:
                    self._client = _find_engine()
                    _sweep(self._client)
                except Unavailable as error:
                    self._unavailable = error
            if self._unavailable is not None:
                raise self._unavailable
            return self._client

    def require_image(self, name: str) -> None:
        """Pull the image if it is missing. Raises Unavailable."""
        client = self.client()
        import docker.errors
        from testcontainers.core.config import testcontainers_config

        # testcontainers before 4.15 has no prefix.
        name = getattr(testcontainers_config, "hub_image_name_prefix", "") + name
        advice = "pull the image, correct its name in settings.toml, or set PERF_SERVICES=embedded"
        try:
            client.images.get(name)
        except docker.errors.ImageNotFound:
            pull = in_background(lambda: client.images.pull(name))
            wait([pull, self.given_up], PULL_LIMIT_S, FIRST_COMPLETED)
            try:
                if not pull.done():
                    raise TimeoutError(f"no answer within {PULL_LIMIT_S:g} s")
                pull.result()
            except Exception as error:
                reason = f"the image {name} is missing and can't be pulled: {describe(error)}"
                raise Unavailable(reason, advice) from None
        except Exception as error:
            raise Unavailable(f"the engine can't look for the image {name}: {describe(error)}", advice) from None

    def disable_ryuk_if_missing(self) -> None:
        """Disable Ryuk, testcontainers' own reaper, if its image cannot be pulled."""
        from testcontainers.core.config import testcontainers_config as config

        with self._lock:
            if not config.ryuk_disabled:
                try:
                    self.require_image(config.ryuk_image)
                except Unavailable:
                    config.ryuk_disabled = True

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def in_background(work: Callable[[], T]) -> Future[T]:
    """Do the work in a daemon thread and return its future. If no thread can be started, do it in this one."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError:
        run()
    return outcome


def _find_engine() -> Any:
    """Return a docker-py client with testcontainers' settings. Raises Unavailable."""
    start = "start Docker, or set PERF_SERVICES=embedded"
    if importlib.util.find_spec("testcontainers") is None:
        raise Unavailable("the package testcontainers is missing", start)
    from testcontainers.core.docker_client import DockerClient, get_docker_host

    try:
        host = get_docker_host() or "unix:///var/run/docker.sock"
        version = in_background(lambda: _api_version(host)).result(ENGINE_LIMIT_S)
    except TimeoutError:
        raise Unavailable(f"the Docker engine doesn't answer within {ENGINE_LIMIT_S:g} s", start) from None
    except PermissionError:
        advice = "add the user to the group docker, or set PERF_SERVICES=embedded"
        raise Unavailable("the Docker engine's socket is closed to this user", advice) from None
    except Exception:
        raise Unavailable("no Docker engine answers", start) from None
    return DockerClient(version=version, timeout=CALL_LIMIT_S).client


def _api_version(host: str) -> str:
    scheme, _, path = host.partition("://")
    if scheme == "unix":
        # Connect here first: docker-py leaves a socket open if nobody answers.
        with socket.socket(socket.AF_UNIX) as attempt:
            attempt.settimeout(ENGINE_LIMIT_S)
            attempt.connect(path)
    import requests
    from testcontainers.core.docker_client import DockerClient

    # With a version, docker-py sends no request yet.
    client = DockerClient(version="1.24", timeout=ENGINE_LIMIT_S * 0.8).client
    with contextlib.closing(client):
        try:
            return str(client.api.version(api_version=False)["ApiVersion"])
        except requests.exceptions.ReadTimeout as error:
            raise TimeoutError from error


def _sweep(client: Any) -> None:
    """Remove containers of runs on this machine that have ended."""
    with contextlib.suppress(Exception):
        for container in client.containers.list(all=True, filters={"label": OWNER_LABEL}, ignore_removed=True):
            host, pid, begun = container.labels[OWNER_LABEL].rsplit(":", 2)
            # A container of another boot may belong to another machine with this name: keep it.
            same_boot = begun.split()[1:] == str(identity(os.getpid())["begun"]).split()[1:]
            if host == host_name() and same_boot and not alive(int(pid), begun):
                with contextlib.suppress(Exception):
                    container.remove(force=True, v=True)
