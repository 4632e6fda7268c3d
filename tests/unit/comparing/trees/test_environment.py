import base64
import errno
import http.server
import json
import os
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from plumbline.comparing.trees import environment as base_environment
from plumbline.comparing.trees.base_commit import NoBase
from plumbline.comparing.trees.copies import make_sides
from plumbline.comparing.trees.environment import (
    _forget_urls,
    base_python,
    changed_versions,
    find_uv,
    harness_packages,
    locked_versions,
    package_folders,
    wanted_changes,
)
from plumbline.results.environment import installed_packages
from tests.support.repository import Repository
from tests.unit.comparing.trees.test_copies import ROOT, answer

TOKEN = "hush-hush"
RECORD = """
import json, sys
from pathlib import Path
from plumbline.comparing.trees.copies import describe, make_sides
from plumbline.comparing.trees.copies import make_sides
from plumbline.comparing.trees.base_commit import NoBase
from plumbline.results.environment import installed_packages
said = []
try:
    sides = make_sides(
        Path(sys.argv[1]),
        "HEAD",
        recorded_packages=installed_packages() | json.loads(sys.argv[3]),
        directories=[],
        cache=Path(sys.argv[2]),
        say=said.append,
    )
    print(json.dumps([str(sides.base.python), str(sides.head.python), describe(sides), said]))
except NoBase as error:
    print(json.dumps([str(error), said]))
"""
VERSIONS = """
import importlib.metadata, json, plumb_tiny
print(json.dumps([importlib.metadata.version("plumb-tiny"), plumb_tiny.VERSION]))
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL, token included, of a package index with versions 1.0 and 2.0 of plumb-tiny."""
    pages = tmp_path_factory.mktemp("index")
    folder = pages / "simple" / "plumb-tiny"
    folder.mkdir(parents=True)
    wheels = [make_wheel(folder, version).name for version in ("1.0", "2.0")]
    (folder / "index.html").write_text("".join(f'<a href="{name}">{name}</a>' for name in wheels))
    expected = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(pages))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if self.headers.get("Authorization") == expected:
                super().do_GET()
            else:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://me:{TOKEN}@127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    server.server_close()
    thread.join()


def make_wheel(folder: Path, version: str) -> Path:
    """A wheel of one module and one command that say their version."""
    path = folder / f"plumb_tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        info = f"plumb_tiny-{version}.dist-info"
        wheel.writestr("plumb_tiny.py", f"VERSION = {version!r}\n\n\ndef main():\n    print(VERSION)\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: plumb-tiny\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\nplumb-tiny = plumb_tiny:main\n")
        wheel.writestr(f"{info}/RECORD", f"plumb_tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


@pytest.fixture(scope="module")
def with_pip(index: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of such an environment with pip in it, to be read only."""
    return environment_with_tiny(tmp_path_factory.mktemp("with_pip") / "environment", index, "pip")


def environment_with_tiny(folder: Path, index: str, installer: str) -> Path:
    """The Python of an environment that sees our packages, and has version 2.0 from the index."""
    subprocess.run(
        [sys.executable, "-m", "venv", *([] if installer == "pip" else ["--without-pip"]), folder], check=True
    )
    python = folder / "bin" / "python"
    [site_packages] = folder.glob("lib/*/site-packages")
    (site_packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    command = [str(python), "-m", "pip"] if installer == "pip" else [*find_uv(), "pip"]
    options = ["--quiet", "--index-url", index, *([] if installer == "pip" else ["--python", str(python)])]
    subprocess.run([*command, "install", *options, "plumb-tiny==2.0"], check=True, capture_output=True)
    return python


def secretless(index: str, tmp_path: Path) -> dict[str, str]:
    """Variables for pip and uv, which alone know the token; uv's cache is the test's own."""
    names = ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX")
    return {
        **dict.fromkeys(names, index),
        "PIP_EXTRA_INDEX_URL": "",
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "PIP_NO_CACHE_DIR": "1",
        "PYTHONPATH": str(ROOT),
    }


def holding(folder: Path, text: str) -> list[Path]:
    """Files below a folder that contain a text; links are not followed."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if text.encode() in path.read_bytes()]


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_the_base_environment_has_the_recorded_version(
    tmp_path: Path, index: str, installer: str, request: pytest.FixtureRequest
) -> None:
    """Base gets the recorded version from an index with a password, head keeps its own, and the token is nowhere."""
    if installer == "uv" and not find_uv():
        pytest.skip("uv is not installed")
    repository = Repository.create(tmp_path / "repository", {"app.py": ""})
    if installer == "pip":
        python = request.getfixturevalue("with_pip")
    else:
        python = environment_with_tiny(tmp_path / "environment", index, installer)
    arguments = [str(repository.root), str(tmp_path / "cache")]
    variables = secretless(index, tmp_path)

    first = answer(python, RECORD, *arguments, '{"plumb-tiny": "1.0"}', cwd=tmp_path, **variables)

    base, head, lines, said = first
    assert head == str(python)
    assert lines == ["plumb-tiny 1.0 → 2.0"]
    assert said == ["making the base environment: plumb-tiny 1.0"]
    assert answer(Path(base), VERSIONS, cwd=tmp_path) == ["1.0", "1.0"]
    assert answer(python, VERSIONS, cwd=tmp_path) == ["2.0", "2.0"]
    commands = [Path(one).with_name("plumb-tiny") for one in (base, head)]
    spoken = [subprocess.run([one], capture_output=True, text=True, check=True).stdout for one in commands]
    assert spoken == ["1.0\n", "2.0\n"]
    assert holding(tmp_path / "cache", TOKEN) == []

    again = answer(python, RECORD, *arguments, '{"plumb-tiny": "1.0"}', cwd=tmp_path, **variables)
    assert again == [base, head, lines, []]

    gone, said = answer(python, RECORD, *arguments, '{"plumb-tiny": "0.9"}', cwd=tmp_path, **variables)
    assert gone.startswith("plumb-tiny 0.9 of the base can't be installed now: ")
    refused, _ = answer(
        python,
        RECORD,
        *arguments,
        '{"plumb-tiny": "0.8"}',
        cwd=tmp_path,
        **{name: value.replace(TOKEN, "wrong-token") for name, value in variables.items()},
    )
    assert refused.startswith("plumb-tiny 0.8 of the base can't be installed now: ")
    assert "-token" not in refused
    assert TOKEN not in gone + json.dumps(said)
    assert holding(tmp_path / "cache", TOKEN) == holding(tmp_path / "cache", "wrong-token") == []
    assert [path.name for path in (tmp_path / "cache" / "environments").iterdir()] == [Path(base).parts[-3]]


def test_a_package_that_base_lacked_is_removed(tmp_path: Path, with_pip: Path) -> None:
    """An accelerator that head has added must not speed up base; a command's shebang leads to its own Python."""
    program = (
        "import json, sys; from pathlib import Path; from plumbline.comparing.trees.environment import *;"
        "print(json.dumps(str(base_python(json.loads(sys.argv[2]), Path(sys.argv[1]), Path(), lambda line: None))))"
    )
    changes = json.dumps({"plumb-tiny": ""})
    base = Path(answer(with_pip, program, str(tmp_path / "cache"), changes, cwd=tmp_path, PYTHONPATH=str(ROOT)))
    find = "import importlib.util, json; print(json.dumps(importlib.util.find_spec('plumb_tiny') is None))"
    assert answer(base, find, cwd=tmp_path) is True
    assert answer(with_pip, find, cwd=tmp_path) is False
    pip = (base.parent / "pip").read_text()
    assert pip.startswith(f"#!{base}")


def test_another_python_gets_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that was made with another version of Python is not used again."""
    made: list[Path] = []
    monkeypatch.setattr(base_environment, "_copy_environment", made.append)
    monkeypatch.setattr(base_environment, "_install", lambda *_: None)
    first = base_python({"redis": "6.4.0"}, tmp_path, tmp_path, lambda _: None)
    assert base_python({"redis": "6.4.0"}, tmp_path, tmp_path, lambda _: None) == first
    monkeypatch.setattr(sys, "version", "3.99.0")
    assert base_python({"redis": "6.4.0"}, tmp_path, tmp_path, lambda _: None) != first
    assert len(made) == 2


def test_no_change_needs_no_environment(tmp_path: Path) -> None:
    """Where the packages are the same, both sides run on ours."""
    assert base_python({}, tmp_path, tmp_path, lambda _: None) == Path(sys.executable)


@pytest.mark.parametrize(
    ("before", "now", "installed", "changes"),
    [
        ({"a": "1"}, {"a": "2"}, {"a": "2"}, {"a": "1"}),
        ({"a": "1"}, {"a": "1"}, {"a": "2"}, {}),
        ({"a": "1"}, {"a": "2"}, {"a": "1"}, {}),
        ({"a": "1"}, {}, {}, {"a": "1"}),
        ({}, {"a": "1"}, {"a": "1"}, {"a": ""}),
        ({}, {"a": "1"}, {}, {}),
        ({"a": "1"}, {"a": "2"}, {}, {}),
        ({"kept": "1"}, {"kept": "2"}, {"kept": "2"}, {}),
    ],
    ids=["changed", "not by head", "not here", "removed", "added", "added elsewhere", "of another group", "kept"],
)
def test_changes_are_what_differs_between_the_lists(
    before: dict[str, str], now: dict[str, str], installed: dict[str, str], changes: dict[str, str]
) -> None:
    """Only what head changed is changed back, and only where it is in use here."""
    assert changed_versions(before, now, installed, {"kept"}) == changes


UV = """
[[package]]
name = "app"
version = "1"
source = { editable = "." }
[[package]]
name = "Red_is"
version = "6.2.0"
source = { registry = "https://example.org/simple" }
[[package]]
name = "old"
version = "1.0"
minimum_detectable_effect-markers = ["python_full_version < '3.0'"]
[[package]]
name = "old"
version = "2.0"
minimum_detectable_effect-markers = ["python_full_version >= '3.0'"]
[[package]]
name = "ours"
version = "1"
source = { git = "https://example.org/ours?rev=main#abc" }
"""
POETRY = """
[[package]]
name = "Red_is"
version = "6.2.0"
[[package]]
name = "old"
version = "2.0"
markers = { main = "python_version >= '3.0'", dev = "python_version < '3.0'" }
[[package]]
name = "windows-only"
version = "1"
markers = "sys_platform == 'win99'"
[[package]]
name = "app"
version = "1"
source = { type = "directory", url = "libs/app" }
[[package]]
name = "ours"
version = "1"
source = { type = "git", url = "https://example.org/ours", reference = "main", resolved_reference = "abc" }
"""
PDM = """
[[package]]
name = "Red_is"
version = "6.2.0"
[[package]]
name = "old"
version = "2.0"
marker = "python_version >= '3.0'"
[[package]]
name = "app"
version = "1"
path = "./libs/app"
[[package]]
name = "ours"
version = "1"
git = "https://example.org/ours"
revision = "abc"
"""
REQUIREMENTS = """\
--index-url https://me:hush@example.org/simple
-e .
Red_is[hiredis]==6.2.0 \\
    --hash=sha256:00
old==2.0 ; python_version >= "3.0"  # a comment
old==1.0 ; python_version < "3.0"
open>=1.0
star==1.*
ours @ git+https://example.org/ours@abc
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("uv.lock", UV), ("poetry.lock", POETRY), ("pdm.lock", PDM), ("requirements.txt", REQUIREMENTS)],
)
def test_a_lock_file_pins_what_applies_here(tmp_path: Path, name: str, text: str) -> None:
    """Of each format: names normalized, markers heeded, packages from git by commit, those from folders left out."""
    (tmp_path / name).write_text(text)
    file, pins = locked_versions(tmp_path, "")
    assert file == name.replace("requirements.txt", "requirements*.txt")
    assert pins == {"red-is": "6.2.0", "old": "2.0", "ours": "git+https://example.org/ours@abc"}


def test_a_workspace_s_lock_file_counts(tmp_path: Path) -> None:
    """A lock file above the project counts, up to the tree's root, and the nearest wins."""
    (tmp_path / "tree" / "services" / "api").mkdir(parents=True)
    (tmp_path / "requirements.txt").write_text("outside==1")
    assert locked_versions(tmp_path / "tree", "services/api/") == ("", {})
    (tmp_path / "tree" / "requirements.txt").write_text("shared==1")
    assert locked_versions(tmp_path / "tree", "services/api/")[1] == {"shared": "1"}
    (tmp_path / "tree" / "services" / "api" / "requirements.txt").write_text("own==1")
    assert locked_versions(tmp_path / "tree", "services/api/")[1] == {"own": "1"}


def test_a_damaged_lock_file_is_said(tmp_path: Path) -> None:
    """A lock file with a merge conflict in it is named."""
    (tmp_path / "uv.lock").write_text("<<<<<<< HEAD")
    with pytest.raises(NoBase, match=r"uv\.lock can't be read"):
        locked_versions(tmp_path, "")


GROUPS = {"dependency-groups": {"perf": ["pytest>=9.0", "redis>=6.4", "msgspec>=0.19", {"include-group": "x"}]}}


def test_the_harness_s_own_packages_are_known() -> None:
    """What pytest needs belongs to the harness; a client, and what the project declares itself, is under test."""
    own, forbids = harness_packages(GROUPS)
    assert {"pytest", "pluggy", "msgspec"} <= own
    assert own.isdisjoint({"redis", "httpx", "h11"})
    assert "msgspec" not in harness_packages({**GROUPS, "project": {"dependencies": ["msgspec>=0.1"]}})[0]
    assert forbids("pluggy", "0.1")
    assert not forbids("redis", "0.1")


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """A base and a head, which declare the harness's groups."""
    for name in ("base", "head"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").write_text('[dependency-groups]\nperf = ["pytest", "redis"]\n')
    return tmp_path / "base", tmp_path / "head"


def wanted(trees: tuple[Path, Path], recorded: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    said: list[str] = []
    return wanted_changes(*trees, "", recorded, said.append), said


def test_the_lock_files_win_where_they_are_followed(trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where head's environment is as head's lock file says, base's is as base's does, whatever was recorded."""
    installed = {"redis": "8.0", "hiredis": "3.0", "pytest": "9.0"}
    monkeypatch.setattr(base_environment, "installed_packages", lambda: installed)
    (trees[0] / "requirements.txt").write_text("redis==6.2\npytest==8.0")
    (trees[1] / "requirements.txt").write_text("redis==8.0\nhiredis==3.0\npytest==9.0")
    assert wanted(trees, {"redis": "5.0"}) == ({"redis": "6.2", "hiredis": ""}, [])


def test_a_lock_file_that_is_not_followed_does_not_count(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment that was not made from the lock file is compared with the baseline's record, and that is said."""
    monkeypatch.setattr(base_environment, "installed_packages", lambda: {"redis": "8.1"})
    (trees[0] / "requirements.txt").write_text("redis==6.2")
    (trees[1] / "requirements.txt").write_text("redis==8.0")
    changes, said = wanted(trees, {"redis": "7.0"})
    assert changes == {"redis": "7.0"}
    [told] = said
    assert told.startswith("redis 8.1 is installed, not the 8.0 of requirements*.txt: ")


def test_without_lock_file_and_record_nothing_changes(trees: tuple[Path, Path]) -> None:
    """Where nobody knows what base had, it gets what head has."""
    assert wanted(trees, {}) == ({}, [])


def test_what_the_harness_cannot_do_with_stays(trees: tuple[Path, Path]) -> None:
    """A package under test that the harness needs as well keeps head's version where base's would break it."""
    installed = installed_packages()
    for tree in trees:
        text = '[project]\ndependencies = ["pluggy"]\n[dependency-groups]\nperf = ["pytest"]\n'
        (tree / "pyproject.toml").write_text(text)
    changes, said = wanted(trees, {**installed, "pluggy": "0.1"})
    assert changes == {}
    assert said == [f"pluggy stays at {installed['pluggy']} in the base, as the harness can't do with 0.1"]


def test_a_full_disk_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an environment has no room, the message is of the first file that didn't fit, and nothing is left."""
    repository = Repository.create(tmp_path / "repository", {"app.py": ""})
    monkeypatch.setattr(base_environment, "_link", no_room)
    recorded = installed_packages() | {"plumb-tiny": "1.0"}
    with pytest.raises(NoBase) as error:
        make_sides(
            repository.root, "HEAD", recorded_packages=recorded, directories=[], cache=tmp_path / "cache", say=print
        )
    assert str(error.value).endswith("/cache: [Errno 28] No space left on device")
    assert list((tmp_path / "cache" / "environments").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"plumb-tiny": "1.0"}, "plumb-tiny 1.0 of the base can't be installed now: "),
        (
            {"plumb-tiny": f"git+http://127.0.0.1:9/{TOKEN}/tiny@abc"},
            "plumb-tiny git+http://127.0.0.1:9/… of the base ",
        ),
    ],
)
def test_a_token_in_a_path_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], shown: str
) -> None:
    """Some indexes have the token in their path: pip and uv print that, and neither the message nor a file has it."""
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.setenv(name, f"http://127.0.0.1:9/{TOKEN}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    said: list[str] = []
    with pytest.raises(NoBase) as error:
        base_python(changes, tmp_path, tmp_path, said.append)
    assert str(error.value).startswith(shown)
    assert TOKEN not in str(error.value) + "".join(said)
    assert holding(tmp_path, TOKEN) == []


def no_room(*_: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_where_a_package_came_from_is_not_kept(tmp_path: Path) -> None:
    """Its URL may hold a token; our own environment, whose files the copy links to, keeps it."""
    [purelib] = package_folders(tmp_path / "bin" / "python")
    ours = {"web": tmp_path / "web.json", "local": tmp_path / "local.json"}
    for name, text in ("web", f'{{"url": "https://{TOKEN}@example.org/web.whl"}}'), ("local", '{"url": "file:///x"}'):
        ours[name].write_text(text)
        copy = Path(purelib, f"{name}-1.0.dist-info", "direct_url.json")
        copy.parent.mkdir(parents=True)
        copy.hardlink_to(ours[name])
    _forget_urls(tmp_path)
    assert [path.parent.name for path in Path(purelib).glob("*/direct_url.json")] == ["local-1.0.dist-info"]
    assert TOKEN in ours["web"].read_text()
