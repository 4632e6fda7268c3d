"""Sources of the package in a copy: a commit of a git repository, the copy's own folder, or the package index."""

import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import plumbline
from plumbline.adopting.pipelines import MEASURE, pipelines_at_root
from tests.support.pipelines import check_schema
from tests.support.project import ROOT, copy_environment, make_environment, pip_install
from tests.support.repository import Repository
from tests.support.slow import cases

from .copies import Copy, copier, copy, make_template, tag

REQUIREMENTS = "tests/performance/requirements.txt"
WHERE = "import plumbline; print(plumbline.__file__)"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server without a log."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Repository, str]]:
    """A template with one version, and the URL of its published commits."""
    template = make_template(tmp_path / "template")
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        template.git("clone", "--quiet", "--bare", ".", str(folder / "plumbline.git"))
        template.git("remote", "add", "origin", str(folder / "plumbline.git"))
        publish(template)
        yield template, f"git+http://127.0.0.1:{server.server_port}/plumbline.git"
        server.shutdown()


def publish(template: Repository) -> None:
    """Push, and write the files that git reads over plain HTTP."""
    template.git("push", "--quiet", "--tags", "origin", "main")
    for command in (["repack", "-adq"], ["update-server-info"]):
        template.git("--git-dir", template.git("remote", "get-url", "origin"), *command)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty environments, one made by venv and one by uv if it is installed."""
    folder = tmp_path_factory.mktemp("empty")
    for name, make in {"pip": [sys.executable, "-m", "venv"], "uv": make_environment("")[:-1]}.items():
        subprocess.run([*make, str(folder / name)], check=True, capture_output=True)
    return folder


def installers(empty: Path, folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Copies of both environments, each with the install command of its tool."""
    for name in ("pip", "uv"):
        python = copy_environment(empty / name, folder / name)
        install = [str(python), "-m", "pip", "install", "--no-compile"] if name == "pip" else pip_install(str(python))
        yield python, install


def plumbline_requirement(root: Path) -> str:
    [line] = re.findall(r"^pytest-plumbline.*", (root / REQUIREMENTS).read_text(encoding="utf-8"), re.MULTILINE)
    return str(line)


@pytest.mark.timeout(300)
def test_a_copy_from_a_url_is_pinned_to_its_commit(
    served: tuple[Repository, str], empty: Path, tmp_path: Path
) -> None:
    """pip and uv install the package from the URL, and an update changes the pin."""
    template, url = served
    copied = Copy(tmp_path / "copy")
    done = copier("copy", "--defaults", url, str(copied.root), cwd=tmp_path)
    assert done.code == 0, done.output
    assert not (copied.suite / "vendor").exists()
    requirement = plumbline_requirement(copied.root)
    assert requirement == f"pytest-plumbline[docker,embedded,html,init,memory,postgres,redis] @ {url}@{template.head()}"
    copied.begin()
    for python, install in installers(empty, tmp_path):
        subprocess.run([*install, "--quiet", "--no-deps", requirement], check=True)
        where = subprocess.run([python, "-c", WHERE], check=True, capture_output=True, text=True).stdout
        assert "site-packages" in where

    old = template.head()
    template.commit({"src/plumbline/added.py": ""})
    tag(template, "v0.2.0")
    publish(template)
    done = copier("update", "--defaults", "--answers-file=.copier-answers.plumbline.yml", cwd=copied.root)

    assert done.code == 0, done.output
    assert template.head() != old
    assert plumbline_requirement(copied.root) == requirement.replace(old, template.head())


@pytest.mark.timeout(300)
def test_a_vendored_package_is_installed_from_the_copy(template: Repository, empty: Path, tmp_path: Path) -> None:
    """pip and uv install it, and newer code counts without another installation."""
    copied = Copy(tmp_path / "a copy")
    assert copy(template, copied.root).code == 0
    for python, install in installers(empty, tmp_path):
        subprocess.run([*install, "--quiet", "--no-deps", "-r", REQUIREMENTS], check=True, cwd=copied.root)
        where = subprocess.run([python, "-c", WHERE], check=True, capture_output=True, text=True).stdout
        assert Path(where.strip()).is_relative_to(copied.suite / "vendor" / "src")


@pytest.mark.parametrize("source", cases(["git", "index", "vendored"], slow={"index"}))
def test_a_copy_from_github_uses_the_action_at_its_commit(
    template: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """The short workflow runs on the same events as the long one, which a vendored copy gets."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{template.root.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/example/plumbline.git")
    options = ["--defaults", "--vcs-ref=v0.1.0", f"--data=plumbline={source}"]
    done = copier("copy", *options, "gh:example/plumbline", "copy", cwd=tmp_path)
    assert done.code == 0, done.output
    copied, ours = ((root / MEASURE).read_text(encoding="utf-8") for root in (tmp_path / "copy", ROOT))
    if source == "vendored":
        assert copied == ours
        return

    short, long = yaml.safe_load(copied), yaml.safe_load(ours)
    checkout, action = short["jobs"].pop("performance")["steps"]
    assert checkout == long["jobs"].pop("performance")["steps"][0]
    del long["env"]["NOX_VERSION"], long["env"]["UV_VERSION"]  # the action has its own
    assert short == long
    assert action["uses"] == f"example/plumbline@{template.head()}"
    assert action["with"].keys() <= yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["inputs"].keys()
    files = pipelines_at_root({MEASURE: copied}, {}, "services/shop")
    at_root = yaml.safe_load(files[".github/workflows/performance-services-shop.yml"] or "")
    assert (at_root["name"], at_root["env"]) == ("performance services/shop", {"FOLDER": "services/shop"})
    assert "\n\n\n" not in copied
    check_schema("vendor.github-workflows", tmp_path / "copy" / MEASURE)


def test_a_copy_on_the_package_index_accepts_this_version(template: Repository, tmp_path: Path) -> None:
    """The range does not include versions that may be incompatible."""
    root = tmp_path / "copy"
    assert copy(template, root, {"plumbline": "index", "services": ["redis"], "reports": False}).code == 0
    requirement = Requirement(plumbline_requirement(root))
    assert requirement.extras == {"docker", "embedded", "init", "memory", "redis"}
    assert requirement.specifier.contains(plumbline.__version__)
    assert not requirement.specifier.contains("1.0")
    assert not (root / "tests" / "performance" / "vendor").exists()
