"""Fixtures: services from settings, which are always stopped, projects, and polling."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from plumbline import cache
from plumbline.services.run import ServiceRun
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
from tests.support.project import Project, make_environments

ROOT = Path(__file__).parents[2]
UNTIL_LIMIT_S = 15.0

# Background jobs of a shell ignore SIGINT, and the children of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Messages name `nox`, as for users who have installed it.
PROGRAMS = tempfile.TemporaryDirectory()
(Path(PROGRAMS.name) / "nox").symlink_to(Path(sys.executable).parent / "nox")
os.environ["PATH"] = os.pathsep.join([PROGRAMS.name, os.environ.get("PATH", os.defpath)])

Until = Callable[[Callable[[], object]], None]


class MakeServices(Protocol):
    """Creates services from the text of a settings.toml, the baseline's backends, and an environment."""

    def __call__(self, text: str = "", preferred: Mapping[str, str] = {}, /, **environ: str) -> Services: ...


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A shared cache folder of the tests: PostgreSQL's template is unpacked only once."""
    folder = tmp_path_factory.mktemp("cache")
    # Private: this process copies the template for the server's user.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        for name in [name for name in os.environ if name.startswith("PERF_")]:
            patch.delenv(name)
        yield folder


@pytest.fixture
def make_services(cache_home: Path, tmp_path: Path) -> Iterator[MakeServices]:
    """Create services. They are stopped at the end of the test."""
    assert cache_home.is_dir()
    made: list[Services] = []

    def make(text: str = "", preferred: Mapping[str, str] = {}, /, **environ: str) -> Services:
        path = tmp_path / f"settings-{len(made)}.toml"
        path.write_text(text, encoding="utf-8")
        made.append(Services(load_settings(path, environ), ROOT, preferred=preferred, environ=environ))
        return made[-1]

    yield make
    for services in made:
        services.stop()


@pytest.fixture(scope="module")
def run() -> Iterator[ServiceRun]:
    """A run for child processes."""
    run = ServiceRun()
    run.begin()
    yield run
    run.end()


@pytest.fixture(scope="session")
def until() -> Until:
    """Poll until a condition holds. Fails the test after a limit."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + UNTIL_LIMIT_S
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"still not so after {UNTIL_LIMIT_S:g} s: {condition}")
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Virtual environments of the template's sessions, made once: the processes of pytest-xdist share them.

    The folder around it is each process's own.
    """
    folder = tmp_path_factory.mktemp("own") / "environments"
    folder.symlink_to(make_once(tmp_path_factory, "environments", make_environments))
    return folder


def make_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Create a read-only folder that is shared by the processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    made = shared.with_name(f"{name} made")
    with cache.locked(shared.with_name(f"{name} lock")):
        if not made.exists():
            shutil.rmtree(shared, ignore_errors=True)  # left by a process that failed
            make(shared)
            made.touch()
    return shared


@pytest.fixture
def project(tmp_path: Path, environments: Path) -> Project:
    """A new copy of the template with a small suite."""
    return Project.create(tmp_path / "project", environments)


@pytest.fixture(scope="session")
def recorded_project(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Project:
    """A read-only project with a baseline, created once."""
    root = make_once(tmp_path_factory, "recorded", lambda root: Project.create_recorded(root, environments))
    return Project(root, environments)


@pytest.fixture
def recorded(recorded_project: Project, tmp_path: Path) -> Project:
    """A project with a baseline, to be changed."""
    return recorded_project.copy(tmp_path / "project")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    mount = tmp_path / "full"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small file system takes root")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)
