"""The packages that the sessions of a copy install: those of the lock file, and no others."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.comparing.trees.installers import find_uv
from plumbline.comparing.trees.pythons import search_path
from tests.support.project import Done, finish
from tests.support.repository import Repository

from .copies import Copy, copy, write_files

PYPROJECT = """
    [project]
    name = "shop"
    version = "1"
    requires-python = ">=3.11"
    dependencies = ["idna", "sniffio"]
    """
UV_LOCK = """
    version = 1
    requires-python = ">=3.11"

    [[package]]
    name = "idna"
    version = "3.7"
    source = { registry = "https://pypi.org/simple" }

    [[package]]
    name = "shop"
    version = "1"
    source = { virtual = "." }
    dependencies = [{ name = "idna" }, { name = "sniffio" }]

    [[package]]
    name = "sniffio"
    version = "1.3.0"
    source = { registry = "https://pypi.org/simple" }
    """
# Poetry would install it by --no-root: there is no folder of its name.
BY_POETRY = """
    [tool.poetry]
    name = "some-service"
    version = "1"
    [tool.poetry.dependencies]
    python = "^3.11"
    idna = "*"
    [build-system]
    requires = ["poetry-core"]
    build-backend = "poetry.core.masonry.api"
    """
POETRY_LOCK = """
    [[package]]
    name = "idna"
    version = "3.6"
    groups = ["main"]

    [[package]]
    name = "pytest"
    version = "7.4.4"
    groups = ["dev"]

    [metadata]
    lock-version = "2.1"
    """
# Its metadata can be read, but it can't be built.
BROKEN = {
    "broken/pyproject.toml": """
        [build-system]
        requires = []
        build-backend = "backend"
        backend-path = ["."]
        """,
    "broken/backend.py": """
        from pathlib import Path


        def prepare_metadata_for_build_wheel(folder, config_settings=None):
            info = Path(folder, "broken-1.dist-info")
            info.mkdir()
            info.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: broken\\nVersion: 1\\n")
            return info.name


        def build_wheel(folder, config_settings=None, metadata_directory=None):
            raise SystemExit("no compiler")
        """,
}


def installed(copied: Copy, name: str) -> str:
    """Return the version of a package in the environment of `ci`, "" if it is missing."""
    found = [path.name for path in (copied.root / ".nox" / "ci").glob(f"lib/*/site-packages/{name}-*.dist-info")]
    return found[0].removeprefix(f"{name}-").removesuffix(".dist-info") if found else ""


def install(copied: Copy) -> Done:
    """Run the part of a session that installs packages."""
    return finish(copied.start("ci", options=("--install-only",)))


def doctor(copied: Copy) -> str:
    """Return what `doctor` says of the installation."""
    done = copied.nox("doctor", PERF_SERVICES="off")
    assert (done.code == 0) == ("\nok      install " in done.output), done.output
    return done.output[done.output.index(" install  ") :].partition("\nok ")[0]


@pytest.fixture
def shop(tmp_path: Path, template: Repository) -> Copy:
    """A copy for an application that is not written yet."""
    copied = Copy(tmp_path / "shop")
    assert copy(template, copied.root, {"services": ["redis"], "ci": "none", "reports": False}).code == 0
    copied.begin()
    return copied


def test_the_environment_is_what_the_lock_file_says(shop: Copy) -> None:
    """First of uv, then of Poetry. A failed installation is invalid, never a regression."""
    write_files(shop.root, {"pyproject.toml": PYPROJECT, "uv.lock": UV_LOCK})
    done = install(shop)
    assert done.code == 0, done.output
    by_uv = "uv.lock by `uv export`" if find_uv() else "uv.lock"
    assert f"\nenvironment: {by_uv}, pyproject.toml, tests/performance/requirements.txt: " in done.output
    assert (installed(shop, "idna"), installed(shop, "sniffio")) == ("3.7", "1.3.0")

    (shop.root / "uv.lock").unlink()
    write_files(shop.root, {"pyproject.toml": BY_POETRY, "poetry.lock": POETRY_LOCK})
    done = install(shop)
    assert done.code == 0, done.output
    assert (installed(shop, "idna"), installed(shop, "sniffio")) == ("3.6", "")
    assert not installed(shop, "pytest").startswith("7.")

    again = install(shop)
    assert "\nenvironment: poetry.lock, tests/performance/requirements.txt\n" in again.output, "nothing was to be done"
    for session in ("doctor", "report"):
        (shop.root / ".nox" / session).symlink_to("ci")
    here = platform.python_version()
    assert re.fullmatch(
        rf" install      Python {here}, as pyproject.toml asks; \d+ packages for poetry.lock, tests/\S+", doctor(shop)
    )
    command = [sys.executable, "-m", "nox", "-s", "report", "--", "--format=csv"]
    report = subprocess.run(command, cwd=shop.root, capture_output=True, text=True)
    assert (report.returncode, "environment: " in report.stdout) == (3, False), "a document is to be written there"
    assert "\nenvironment: poetry.lock, " in report.stderr

    requirements = shop.suite / "requirements.txt"
    text = requirements.read_text(encoding="utf-8")
    requirements.write_text(f"{text}idna>=3.7\n", encoding="utf-8")
    done = shop.nox("ci")
    assert done.code == 3, done.output
    assert "\nthe environment can't be made for poetry.lock, tests/performance/requirements.txt:\n" in done.output
    assert "\nChange one of these versions, in the project or in tests/performance/requirements.txt." in done.output
    found = doctor(shop)
    assert found.startswith(" install      poetry.lock, tests/performance/requirements.txt: "), found
    assert "Change one of these versions, in the project or in tests/performance/requirements.txt." in found
    write_files(shop.root, BROKEN)
    requirements.write_text(f"{text}./broken\n", encoding="utf-8")
    found = doctor(shop)
    assert "requirements.txt: the packages were found, but could not be installed: see the error above" in found
    requirements.write_text(f"{text}-e ./no-such-folder\n", encoding="utf-8")
    assert shop.nox("ci").code == 3
    requirements.write_text(text, encoding="utf-8")

    shop.edit("settings.toml", 'python = ""', 'python = "3.99"')
    done = shop.nox("ci")
    assert done.code == 3, done.output
    assert "`python` in tests/performance/settings.toml asks for Python ==3.99.*, which is not installed" in done.output
    assert "Traceback" not in done.output
    assert installed(shop, "idna") == "3.6", "the environment stays"


def python_of(copied: Copy) -> str:
    """Return the Python version in the environment of `ci`, such as 3.13."""
    [library] = (copied.root / ".nox" / "ci" / "lib").glob("python*")
    return library.name.removeprefix("python")


@pytest.mark.skipif(not find_uv(), reason="uv is not installed")
def test_another_python_makes_the_environment_again(shop: Copy) -> None:
    """The project's version is used, and Nox's own if the project names none."""
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    environ = {**os.environ, "PATH": search_path()}
    has = []
    for one in {"3.11", "3.12", "3.13"} - {ours}:
        command = [*find_uv(), "python", "find", "--system", one]
        has += [one] if subprocess.run(command, env=environ, check=False, capture_output=True).returncode == 0 else []
    if not has:
        pytest.skip("there is no other Python")
    write_files(shop.root, {".python-version": f"{has[0]}\n"})
    done = install(shop)
    assert done.code == 0, done.output
    assert python_of(shop) == has[0]

    (shop.root / ".python-version").unlink()
    done = install(shop)
    assert done.code == 0, done.output
    assert python_of(shop) == ours
