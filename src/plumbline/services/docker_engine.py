"""The Docker engine: found once for a run, asked within limits, and its images pulled."""

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
    """All servers of a run share one client of the engine."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._client: Any = None
        self._unavailable: Unavailable | None = None
        self.given_up: Future[None] = Future()  # done: the run ends, and leaves a pull under way to the engine

    def client(self) -> Any:
        """Return a client of docker-py. Raises Unavailable, never much later than after ENGINE_LIMIT_S."""
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

        # Versions before 4.15 know no prefix.
        name = getattr(testcontainers_config, "hub_image_name_prefix", "") + name
        advice = "pull the image, correct its name in settings.toml, or use embedded"
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
                reason = f"the image {name} isn't there and can't be pulled: {describe(error)}"
                raise Unavailable(reason, advice) from None
        except Exception as error:
            raise Unavailable(f"the engine can't look for the image {name}: {describe(error)}", advice) from None

    def disable_ryuk_if_missing(self) -> None:
        """Start without testcontainers' own reaper if its image cannot be pulled."""
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
    """Do the work in a thread of its own, which does not keep this process from ending, and return what comes of it.

    If no more threads are allowed, do it here.
    """
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
    """Return a client of docker-py, made as testcontainers makes it. Raises Unavailable."""
    start = "start Docker, or use embedded"
    if importlib.util.find_spec("testcontainers") is None:
        raise Unavailable("the package testcontainers is missing", start)
    from testcontainers.core.docker_client import DockerClient, get_docker_host

    try:
        host = get_docker_host() or "unix:///var/run/docker.sock"
        version = in_background(lambda: _api_version(host)).result(ENGINE_LIMIT_S)
    except TimeoutError:
        raise Unavailable(f"the Docker engine doesn't answer within {ENGINE_LIMIT_S:g} s", start) from None
    except PermissionError:
        advice = "add the user to the group docker, or use embedded"
        raise Unavailable("the Docker engine's socket is closed to this user", advice) from None
    except Exception:
        raise Unavailable("no Docker engine answers", start) from None
    return DockerClient(version=version, timeout=CALL_LIMIT_S).client


def _api_version(host: str) -> str:
    scheme, _, path = host.partition("://")
    if scheme == "unix" and hasattr(socket, "AF_UNIX"):
        # Tried here first: docker-py leaves a socket open if nobody answers.
        with socket.socket(socket.AF_UNIX) as attempt:
            attempt.settimeout(ENGINE_LIMIT_S)
            attempt.connect(path)
    import requests
    from testcontainers.core.docker_client import DockerClient

    # With a version given it asks the engine nothing yet.
    client = DockerClient(version="1.24", timeout=ENGINE_LIMIT_S * 0.8).client
    with contextlib.closing(client):
        try:
            return str(client.api.version(api_version=False)["ApiVersion"])
        except requests.exceptions.ReadTimeout as error:
            raise TimeoutError from error


def _sweep(client: Any) -> None:
    """Remove containers of runs on this machine whose process has ended."""
    with contextlib.suppress(Exception):
        for container in client.containers.list(all=True, filters={"label": OWNER_LABEL}, ignore_removed=True):
            host, pid, begun = container.labels[OWNER_LABEL].rsplit(":", 2)
            # Of another boot: perhaps of another machine with this name. Then only the run's record says more.
            same_boot = begun.split()[1:] == str(identity(os.getpid())["begun"]).split()[1:]
            if host == host_name() and same_boot and not alive(int(pid), begun):
                with contextlib.suppress(Exception):
                    container.remove(force=True, v=True)
