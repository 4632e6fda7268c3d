import base64
import errno
import http.server
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from plumbline.comparing.trees import environment
from plumbline.comparing.trees.environment import base_python, installed_copies, package_folders
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.installers import find_uv
from plumbline.comparing.trees.sides import make_sides
from plumbline.results.environment import installed_packages
from tests.support.project import ROOT, copy_environment
from tests.support.repository import Repository
from tests.unit.comparing.trees.helpers import SOURCE, answer

TOKEN = "hush-hush"


RECORD = """
import json, sys
from pathlib import Path
from plumbline.comparing.trees.sides import describe, make_sides
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.locks import read_toml
from plumbline.project import SUITE
from plumbline.results.environment import installed_packages
reported = []
try:
    sides = make_sides(
        Path(sys.argv[1]),
        "HEAD",
        recorded_packages=installed_packages() | json.loads(sys.argv[3]),
        directories=[],
        cache=Path(sys.argv[2]),
        say=reported.append,
    )
    print(json.dumps([str(sides.base.python), str(sides.head.python), describe(sides), reported]))
except NoBase as error:
    print(json.dumps([str(error), reported]))
"""


PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "plumb-sample"
version = "1"
[tool.setuptools]
py-modules = ["sample"]
"""
VERSIONS = """
import importlib.metadata, json, plumb_tiny
print(json.dumps([importlib.metadata.version("plumb-tiny"), plumb_tiny.VERSION]))
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL, with a token, of a package index with versions 1.0 and 2.0 of plumb-tiny."""
    pages = tmp_path_factory.mktemp("index")
    folder = pages / "simple" / "plumb-tiny"
    folder.mkdir(parents=True)
    wheels = [make_wheel(folder, version).name for version in ("1.0", "2.0")]
    (folder / "index.html").write_text("".join(f'<a href="{name}">{name}</a>' for name in wheels))
    above = pages / "simple" / "plumb-above"
    above.mkdir()
    (above / "index.html").write_text(f'<a href="{make_wheel_above(above).name}">1.0</a>')
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
    """Write a wheel with a module and a command that return their version."""
    path = folder / f"plumb_tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        info = f"plumb_tiny-{version}.dist-info"
        wheel.writestr("plumb_tiny.py", f"VERSION = {version!r}\n\n\ndef main():\n    print(VERSION)\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: plumb-tiny\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\nplumb-tiny = plumb_tiny:main\n")
        wheel.writestr(f"{info}/RECORD", f"plumb_tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def make_wheel_above(folder: Path) -> Path:
    """Write a wheel that needs version 1.0 of plumb-tiny."""
    path = folder / "plumb_above-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        info = "plumb_above-1.0.dist-info"
        needs = "Requires-Dist: plumb-tiny==1.0\n"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: plumb-above\nVersion: 1.0\n{needs}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


@pytest.fixture(scope="module")
def with_pip(index: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with pip. Do not change it."""
    return environment_with_tiny(tmp_path_factory.mktemp("with_pip") / "environment", index, "pip")


def environment_with_tiny(folder: Path, index: str, installer: str) -> Path:
    """The Python of an environment with our packages and version 2.0 of plumb-tiny."""
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
    """Variables for pip and uv, with the token and a cache of this test."""
    names = ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX")
    return {
        **dict.fromkeys(names, index),
        "PIP_EXTRA_INDEX_URL": "",
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "PIP_NO_CACHE_DIR": "1",
        "PYTHONPATH": str(SOURCE),
    }


INSTALLED = """
import json, sys
from pathlib import Path
from plumbline.comparing.trees.environment import base_python, local_packages
base = base_python(json.loads(sys.argv[2]), Path(sys.argv[1]), Path(), lambda line: None)
print(json.dumps([sorted(local_packages()), str(base)]))
"""
WHICH = """
import importlib.metadata, importlib.util, json
print(json.dumps([importlib.metadata.version("pytest-plumbline"), importlib.util.find_spec("plumbline").origin]))
"""


@pytest.mark.parametrize("editable", [True, False], ids=["editable", "by its path"])
@pytest.mark.parametrize("installer", [pytest.param("pip", marks=pytest.mark.slow), "uv"])
def test_an_install_of_plumbline_from_a_folder_is_not_under_test(
    tmp_path: Path,
    index: str,
    installer: str,
    editable: bool,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The project is under test. The base's environment has the same Plumbline."""
    if installer == "uv" and not find_uv():
        pytest.skip("uv is not installed")
    vendored = tmp_path / "tests" / "performance" / "vendor" / "pytest-plumbline"
    shutil.copytree(SOURCE / "plumbline", vendored / "src" / "plumbline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, vendored / name)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "sample.py").touch()
    (tmp_path / "project" / "pyproject.toml").write_text(PROJECT)
    if installer == "pip":
        python = copy_environment(request.getfixturevalue("with_pip").parents[1], tmp_path / "environment")
        monkeypatch.setenv("PIP_NO_COMPILE", "1")  # also for what builds the packages: it takes longer than they do
    else:
        python = environment_with_tiny(tmp_path / "environment", index, installer)
    command = [str(python), "-m", "pip"] if installer == "pip" else [*find_uv(), "pip"]
    options = ["--quiet", "--no-deps", *([] if installer == "pip" else ["--python", str(python)])]
    folders = [part for one in (vendored, tmp_path / "project") for part in (["-e"] if editable else []) + [str(one)]]
    subprocess.run([*command, "install", *options, *folders], check=True, capture_output=True)

    arguments = [str(tmp_path / "cache"), '{"plumb-tiny": ""}']
    local, base = answer(python, INSTALLED, *arguments, cwd=tmp_path)

    assert local == ["plumb-sample"]
    (version, head_file), (base_version, base_file) = (answer(Path(one), WHICH, cwd=tmp_path) for one in (python, base))
    assert base_version == version
    assert Path(base_file).is_relative_to(vendored if editable else tmp_path / "cache")
    assert Path(base_file).read_bytes() == Path(head_file).read_bytes()


def holding(folder: Path, text: str) -> list[Path]:
    """Return the files in a folder that contain a text. Links are not followed."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if text.encode() in path.read_bytes()]


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_the_base_environment_has_the_recorded_version(
    tmp_path: Path, index: str, installer: str, request: pytest.FixtureRequest
) -> None:
    """It comes from an index with a password. Head keeps its version, and the token is stored nowhere."""
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

    base, head, lines, reported = first
    assert head == str(python)
    assert lines == ["plumb-tiny 1.0 → 2.0"]
    assert reported == ["making the base environment: plumb-tiny 1.0"]
    assert answer(Path(base), VERSIONS, cwd=tmp_path) == ["1.0", "1.0"]
    assert answer(python, VERSIONS, cwd=tmp_path) == ["2.0", "2.0"]
    commands = [Path(one).with_name("plumb-tiny") for one in (base, head)]
    spoken = [subprocess.run([one], capture_output=True, text=True, check=True).stdout for one in commands]
    assert spoken == ["1.0\n", "2.0\n"]
    assert holding(tmp_path / "cache", TOKEN) == []

    again = answer(python, RECORD, *arguments, '{"plumb-tiny": "1.0"}', cwd=tmp_path, **variables)
    assert again == [base, head, lines, []]

    gone, reported = answer(python, RECORD, *arguments, '{"plumb-tiny": "0.9"}', cwd=tmp_path, **variables)
    assert gone.startswith("plumb-tiny 0.9 of the base can't be installed: ")
    refused, _ = answer(
        python,
        RECORD,
        *arguments,
        '{"plumb-tiny": "0.8"}',
        cwd=tmp_path,
        **{name: value.replace(TOKEN, "wrong-token") for name, value in variables.items()},
    )
    assert refused.startswith("plumb-tiny 0.8 of the base can't be installed: ")
    assert "-token" not in refused
    assert TOKEN not in gone + json.dumps(reported)
    assert holding(tmp_path / "cache", TOKEN) == holding(tmp_path / "cache", "wrong-token") == []
    assert [path.name for path in (tmp_path / "cache" / "environments").iterdir()] == [Path(base).parts[-3]]


def test_a_package_that_base_lacked_is_removed(tmp_path: Path, with_pip: Path) -> None:
    """A new accelerator in head must not speed up base. Commands in base use base's Python."""
    program = (
        "import json, sys; from pathlib import Path; from plumbline.comparing.trees.environment import base_python;"
        "print(json.dumps(str(base_python(json.loads(sys.argv[2]), Path(sys.argv[1]), Path(), lambda line: None))))"
    )
    changes = json.dumps({"plumb-tiny": ""})
    base = Path(answer(with_pip, program, str(tmp_path / "cache"), changes, cwd=tmp_path, PYTHONPATH=str(SOURCE)))
    find = "import importlib.util, json; print(json.dumps(importlib.util.find_spec('plumb_tiny') is None))"
    assert answer(base, find, cwd=tmp_path) is True
    assert answer(with_pip, find, cwd=tmp_path) is False
    pip = (base.parent / "pip").read_text()
    assert pip.startswith(f"#!{base}")


def test_what_a_change_needs_changes_with_it(tmp_path: Path, index: str) -> None:
    """A dependency that base's requirements leave out changes if head's version does not fit."""
    if not find_uv():
        pytest.skip("uv is not installed")
    repository = Repository.create(tmp_path / "repository", {"requirements.txt": "plumb-above==1.0\n"})
    (repository.root / "requirements.txt").write_text("")
    python = environment_with_tiny(tmp_path / "environment", index, "uv")
    arguments = [str(repository.root), str(tmp_path / "cache"), "{}"]
    base, _, lines, _ = answer(python, RECORD, *arguments, cwd=tmp_path, **secretless(index, tmp_path))
    assert lines == ["plumb-above 1.0 → (none)", "plumb-tiny 1.0 → 2.0", "1 file differs: requirements.txt"]
    assert answer(Path(base), VERSIONS, cwd=tmp_path) == ["1.0", "1.0"]


def test_another_python_gets_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(environment, "_copy_environment", made.append)
    monkeypatch.setattr(environment, "_install", lambda *_: None)
    first = base_python({"redis": "6.4.0"}, tmp_path, tmp_path, lambda _: None)
    assert base_python({"redis": "6.4.0"}, tmp_path, tmp_path, lambda _: None) == first
    monkeypatch.setattr(sys, "version", "3.99.0")
    assert base_python({"redis": "6.4.0"}, tmp_path, tmp_path, lambda _: None) != first
    assert len(made) == 2


def test_another_commit_of_the_same_version_gets_another_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version of a package from git, such as Plumbline, often stays from commit to commit."""
    monkeypatch.setattr(environment, "_copy_environment", lambda _: None)
    monkeypatch.setattr(environment, "_install", lambda *_: None)
    made = []
    for content in ("old", "old", "new"):
        info = tmp_path / content / "shop-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text("Name: shop\nVersion: 1.0\n")
        (info / "RECORD").write_text(f"shop.py,sha256={content},1\n")
        (info / "direct_url.json").write_text('{"url": "https://example.com/shop", "vcs_info": {}}')
        installed = {"shop": PathDistribution(info)}
        monkeypatch.setattr(environment, "distributions", lambda found=installed: found)
        made.append(base_python({"redis": "6.4.0"}, tmp_path / "cache", tmp_path, lambda _: None))
    assert made[0] == made[1] != made[2]


def test_no_change_needs_no_environment(tmp_path: Path) -> None:
    """With the same packages both sides use this environment."""
    assert base_python({}, tmp_path, tmp_path, lambda _: None) == Path(sys.executable)


def test_a_full_disk_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the first file, and nothing is left."""
    repository = Repository.create(tmp_path / "repository", {"app.py": ""})
    monkeypatch.setattr(environment, "hard_link", no_room)
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
        ({"plumb-tiny": "1.0"}, "plumb-tiny 1.0 of the base can't be installed: "),
        (
            {"plumb-tiny": f"git+http://127.0.0.1:9/{TOKEN}/tiny@abc"},
            "plumb-tiny git+http://127.0.0.1:9/… of the base ",
        ),
    ],
)
def test_a_token_in_a_path_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], shown: str
) -> None:
    """pip and uv print the path of an index, but neither the message nor a file has the token."""
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.setenv(name, f"http://127.0.0.1:9/{TOKEN}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    reported: list[str] = []
    with pytest.raises(NoBase) as error:
        base_python(changes, tmp_path, tmp_path, reported.append)
    assert str(error.value).startswith(shown)
    assert TOKEN not in str(error.value) + "".join(reported)
    assert holding(tmp_path, TOKEN) == []


def no_room(*_: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_urls_of_packages_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL can contain a token. This environment keeps its own files."""
    ours = {"web": tmp_path / "web.json", "local": tmp_path / "local.json"}
    for name, text in ("web", f'{{"url": "https://{TOKEN}@example.org/web.whl"}}'), ("local", '{"url": "file:///x"}'):
        ours[name].write_text(text)

    def copy_environment(target: Path) -> None:
        [purelib] = package_folders(target / "bin" / "python")
        for name, file in ours.items():
            copy = Path(purelib, f"{name}-1.0.dist-info", "direct_url.json")
            copy.parent.mkdir(parents=True)
            copy.hardlink_to(file)

    monkeypatch.setattr(environment, "_copy_environment", copy_environment)
    monkeypatch.setattr(environment, "_install", lambda *_: None)
    [purelib] = package_folders(base_python({"redis": "6.4.0"}, tmp_path / "cache", tmp_path, lambda _: None))
    assert [path.parent.name for path in Path(purelib).glob("*/direct_url.json")] == ["local-1.0.dist-info"]
    assert TOKEN in ours["web"].read_text()


def test_a_cache_whose_path_no_environment_can_have(tmp_path: Path) -> None:
    """`venv` refuses a path with a colon. The error says so."""
    with pytest.raises(NoBase, match="the base environment can't be made: Refusing to create a venv"):
        base_python({"redis": "6.4.0"}, tmp_path / "a:b", tmp_path, lambda _: None)


@pytest.mark.parametrize(
    ("folder", "info"), [("repository/lib", "{}"), ("lib", "{}"), ("repository/lib", '{"editable": true}')]
)
def test_copies_that_are_installed_from_folders_of_the_repository(
    folder: str, info: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code counts, not the metadata."""
    site, top = tmp_path / "site", tmp_path / "repository"
    about = site / "somelib-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somelib\nVersion: 1\n")
    (about / "RECORD").write_text("somelib/part.py,,\nsomelib-1.dist-info/METADATA,,\n")
    (about / "direct_url.json").write_text(f'{{"url": "file://{tmp_path}/{folder}", "dir_info": {info}}}')
    monkeypatch.syspath_prepend(site)
    expected = ("lib", {site / "somelib/part.py"}) if (folder, info) == ("repository/lib", "{}") else None
    assert installed_copies(top).get("somelib") == expected
