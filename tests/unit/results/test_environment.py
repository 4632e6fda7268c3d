import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.results import environment
from plumbline.results.environment import (
    CI_BRANCH,
    baseline_name,
    cpu_model,
    describe_environment,
    git_branch,
    git_state,
    installed_packages,
    machine_id,
    project_name,
)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(autouse=True)
def no_git_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the variables of a git hook, which name the project's own repository."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit with one file."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("first")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "First")
    return tmp_path


def test_a_clean_tree_has_its_commit(repository: Path) -> None:
    """The commit is the full hash of HEAD."""
    assert git_state(repository) == (git(repository, "rev-parse", "HEAD"), False)


def test_an_edited_file_makes_the_tree_dirty(repository: Path) -> None:
    """The file may be staged or not."""
    (repository / "file").write_text("second")
    edited = git_state(repository)
    git(repository, "add", "file")
    staged = git_state(repository)

    assert edited[1]
    assert staged[1]


def test_an_untracked_file_leaves_the_tree_clean(repository: Path) -> None:
    """Results and notes are no changes of the commit."""
    (repository / "notes").write_text("mine")

    assert not git_state(repository)[1]


def test_a_folder_of_a_repository_has_the_repository_s_state(repository: Path) -> None:
    """A suite in part of a larger repository has the repository's commit."""
    (repository / "part").mkdir()

    assert git_state(repository / "part") == git_state(repository)


def test_a_repository_without_commits_has_no_state(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").touch()
    git(tmp_path, "add", "file")

    assert git_state(tmp_path) == ("", False)


def test_a_folder_without_repository_has_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unpacked archive can be measured, too."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert git_state(tmp_path) == ("", False)


def test_without_git_there_is_no_state(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without git is no error."""
    monkeypatch.setenv("PATH", "")

    assert git_state(repository) == ("", False)


def test_packages_have_normalized_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are lower-case with single hyphens, and sorted. Of two copies the imported one counts."""
    for folder, version in [("first", "2.0"), ("second", "1.0")]:
        metadata = tmp_path / folder / f"Zope.Deep__Name-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: Zope.Deep__Name\nVersion: {version}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second"), *sys.path])

    packages = installed_packages()

    assert packages["zope-deep-name"] == "2.0"
    assert packages["pytest-asyncio"] == importlib.metadata.version("pytest-asyncio")
    assert list(packages) == sorted(packages)


def test_a_broken_package_without_a_name_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted installation can leave a folder without metadata."""
    metadata = tmp_path / "broken-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    assert installed_packages() == {}


@pytest.mark.parametrize(
    ("services", "end"),
    [
        ({"redis": "docker", "postgres": "docker", "app": "process"}, "docker"),
        ({"redis": "embedded", "postgres": "docker"}, "docker-embedded"),
        ({"redis": "docker", "postgres": "embedded"}, "docker-embedded"),
        ({"redis": "external"}, "external"),
        ({"app": "process"}, "none"),
        ({}, "none"),
    ],
)
def test_the_baseline_s_name_has_the_kind_of_machine(services: dict[str, str], end: str) -> None:
    """The name has system, architecture, processor and backends, in characters that each file system allows."""
    name = baseline_name("Linux", "x86_64", "Intel(R) Xeon(R) CPU @ 2.20GHz 6/79/0", services)

    assert name == f"linux-x86-64-intel-xeon-cpu-2-20ghz-6-79-0-{end}.json"


def test_the_machine_has_the_same_name_in_every_process() -> None:
    """A fresh process gives the same 12 hexadecimal digits."""
    program = "from plumbline.results.environment import machine_id; print(machine_id())"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == machine_id()
    assert len(bytes.fromhex(machine_id())) == 6


@pytest.mark.parametrize("function", ["platform.node", "platform.machine", "os.cpu_count"])
def test_another_host_or_hardware_is_another_machine(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clones of a disk image have the same machine id, but another host name or hardware."""
    before = machine_id()
    monkeypatch.setattr(function, lambda: "another")

    assert machine_id() != before


@pytest.fixture
def system_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with replacements for files of the system."""
    for name in ("etc", "var/lib/dbus", "proc"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(environment, "Path", lambda name: tmp_path / name.lstrip("/"))
    return tmp_path


def test_another_machine_id_is_another_machine(system_files: Path) -> None:
    """Equal hosts of one image differ in the id that the system made at its first start."""
    (system_files / "etc" / "machine-id").write_text("a")
    first = machine_id()
    (system_files / "etc" / "machine-id").write_text("b")

    assert machine_id() != first


def test_the_machine_id_of_dbus_takes_the_place_of_a_missing_one(system_files: Path) -> None:
    """The system's id has priority over that of D-Bus."""
    without = machine_id()
    (system_files / "var" / "lib" / "dbus" / "machine-id").write_text("a")
    of_dbus = machine_id()
    (system_files / "etc" / "machine-id").write_text("b\n")
    both = machine_id()
    (system_files / "var" / "lib" / "dbus" / "machine-id").unlink()

    assert len({without, of_dbus, both}) == 3
    assert machine_id() == both


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (
            "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 79\nmodel name\t: Intel(R) Xeon(R): fast\nstepping\t: 0\n\n"
            "processor\t: 1\ncpu family\t: 7\nmodel\t\t: 80\nmodel name\t: Another\nstepping\t: 1\n",
            "Intel(R) Xeon(R): fast 6/79/0",
        ),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "0xd0c"),
        ("processor\t: 0\nisa\t: rv64imafdc\n", "ma-1"),
        (None, "of the platform"),
    ],
    ids=["x86", "ARM", "neither", "not Linux"],
)
def test_the_processor_is_described_by_what_the_system_knows(
    system_files: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str | None, expected: str
) -> None:
    """Its model with numbers, or its part number, or else the architecture."""
    monkeypatch.setattr(platform, "machine", lambda: "ma-1")
    monkeypatch.setattr(platform, "processor", lambda: "of the platform")
    monkeypatch.setenv("PATH", "")
    if cpuinfo is not None:
        (system_files / "proc" / "cpuinfo").write_text(cpuinfo)

    assert cpu_model() == expected


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="Linux alone tells the processor in /proc/cpuinfo")
def test_the_processor_has_the_kernel_s_name() -> None:
    """The name begins with the model, and on x86 it ends with the numbers."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}

    name = cpu_model()

    assert name.startswith(fields.get("model name", ""))
    if "stepping" in fields:
        assert name.endswith(f" {fields['cpu family']}/{fields['model']}/{fields['stepping']}")
    assert name == name.strip() != ""


def test_the_description_holds_what_it_was_given_and_what_it_found(repository: Path) -> None:
    """Services, versions, pin and the user's name are given. Python, kernel and commit are found."""
    described = describe_environment(
        repository, machine="pool", services={"redis": "docker"}, versions={"redis": "8.0"}, pin=1
    )

    assert described.machine == "pool"
    assert (described.services, described.versions, described.pin) == ({"redis": "docker"}, {"redis": "8.0"}, 1)
    assert (described.commit, described.dirty) == (git(repository, "rev-parse", "HEAD"), False)
    assert (described.python, described.kernel) == (platform.python_version(), platform.release())
    assert (described.system, described.cpu_count) == (platform.system().lower(), os.cpu_count())
    assert described.packages == installed_packages()


def test_a_machine_without_a_name_is_described_by_its_id(repository: Path) -> None:
    """The hash reveals nothing about the machine."""
    described = describe_environment(repository, machine="", services={}, versions={}, pin=None)

    assert described.machine == machine_id()


def test_the_branch_is_the_one_that_is_checked_out(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI checks out a commit and names its branch: of a proposed change, then of a push, but no tag."""
    for name in (*CI_BRANCH, "GITHUB_REF_TYPE"):
        monkeypatch.delenv(name, raising=False)
    git(repository, "checkout", "--quiet", "-b", "topic/lists")
    assert git_branch(repository) == "topic/lists"

    git(repository, "checkout", "--quiet", "--detach")
    assert git_branch(repository) == ""
    monkeypatch.setenv("GITHUB_REF_NAME", "v1.0")
    monkeypatch.setenv("GITHUB_REF_TYPE", "tag")
    assert git_branch(repository) == ""
    monkeypatch.setenv("GITHUB_REF_TYPE", "branch")
    assert git_branch(repository) == "v1.0"
    monkeypatch.setenv("GITHUB_HEAD_REF", "proposed")
    assert git_branch(repository) == "proposed"


@pytest.mark.parametrize(
    ("text", "name"),
    [('[project]\nname = "shop"', "shop"), ("[project]\nname = 3", "folder"), ("[tool]", "folder"), ("=", "folder")],
)
def test_a_project_is_named_in_pyproject_or_by_its_folder(tmp_path: Path, text: str, name: str) -> None:
    """A file without a name, or that is not TOML, is as good as none."""
    folder = tmp_path / "folder"
    folder.mkdir()
    assert project_name(folder) == "folder"

    (folder / "pyproject.toml").write_text(text)
    assert project_name(folder) == name
