from pathlib import Path

import pytest

from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.locks import Lock, read_lock

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
resolution-markers = ["python_full_version < '3.0'"]
[[package]]
name = "old"
version = "2.0"
resolution-markers = ["python_full_version >= '3.0'"]
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
ours @ git+https://example.org/ours@abc
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("uv.lock", UV), ("poetry.lock", POETRY), ("pdm.lock", PDM), ("requirements.txt", REQUIREMENTS)],
)
def test_a_lock_file_pins_what_applies_here(tmp_path: Path, name: str, text: str) -> None:
    """In each format names are normalized, markers count, and local folders are left out."""
    (tmp_path / name).write_text(text)
    lock = read_lock(tmp_path, "")
    assert lock.file == name
    expected = {"red-is": "6.2.0", "old": "2.0", "ours": "git+https://example.org/ours@abc"}
    assert lock.pins == expected | ({"open": ">=1.0"} if name == "requirements.txt" else {})
    assert lock.complete == (name != "requirements.txt")


def test_a_lock_file_of_a_workspace_counts(tmp_path: Path) -> None:
    """The nearest lock file at or above the project counts, up to the tree's root."""
    (tmp_path / "tree" / "services" / "api").mkdir(parents=True)
    (tmp_path / "requirements.txt").write_text("outside==1")
    assert read_lock(tmp_path / "tree", "services/api/") == Lock()
    (tmp_path / "tree" / "requirements.txt").write_text("shared==1")
    assert read_lock(tmp_path / "tree", "services/api/").pins == {"shared": "1"}
    (tmp_path / "tree" / "services" / "api" / "requirements.txt").write_text("own==1")
    assert read_lock(tmp_path / "tree", "services/api/").pins == {"own": "1"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("uv.lock", "<<<<<<< HEAD"),
        ("uv.lock", "version = 'x'"),
        ("uv.lock", "package = 1"),
        ("poetry.lock", "[[package]]\nversion = '1'"),
        ("pdm.lock", "package = ['a']"),
        ("requirements.txt", "-r gone.txt"),
    ],
)
def test_a_damaged_lock_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    """For example one with a merge conflict."""
    (tmp_path / name).write_text(text)
    with pytest.raises(NoBase, match=f"{name} can't be read"):
        read_lock(tmp_path, "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("uv.lock", "version = 2"),
        ("poetry.lock", "[metadata]\nlock-version = '3.0'"),
        ("pdm.lock", "[metadata]\nlock_version = '5.0'"),
        ("pylock.toml", "lock-version = '2.0'"),
        ("Pipfile.lock", "{}"),
    ],
)
def test_a_format_that_is_not_known_is_not_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_lock(tmp_path, "") == Lock(name, known=False, text=text)


NAMED = ["below", "rust", "elsewhere", "more", "linter", "others"]
WORKSPACE = """
version = 1
revision = 5
[[package]]
name = "api"
version = "1"
source = { editable = "services/api" }
dependencies = [
    { name = "fork", version = "1.0", marker = "python_full_version < '3.0'" },
    { name = "fork", version = "2.0", marker = "python_full_version >= '3.0'" },
    { name = "core", extra = ["fast"] },
    { name = "elsewhere", marker = "sys_platform == 'win99'" },
]
[package.optional-dependencies]
more = [{ name = "more" }]
[package.dev-dependencies]
dev = [{ name = "linter" }]
[[package]]
name = "other"
version = "1"
source = { editable = "services/other" }
dependencies = [{ name = "others" }]
[[package]]
name = "core"
version = "1"
dependencies = [{ name = "below" }]
[package.optional-dependencies]
fast = [{ name = "rust" }]
[[package]]
name = "fork"
version = "1.0"
[[package]]
name = "fork"
version = "2.0"
[[package]]
name = "twice"
version = "1.0"
[[package]]
name = "twice"
version = "2.0"
""" + "".join(f'[[package]]\nname = "{name}"\nversion = "1"\n' for name in NAMED)


@pytest.mark.parametrize("prefix", ["services/api/", ""])
def test_uv_notes_who_asks_for_a_package(tmp_path: Path, prefix: str) -> None:
    """The project is found by its folder or its name. Markers decide between forks."""
    (tmp_path / prefix).mkdir(parents=True, exist_ok=True)
    (tmp_path / prefix / "pyproject.toml").write_text('[project]\nname = "API"\n')
    (tmp_path / "uv.lock").write_text(WORKSPACE)
    lock = read_lock(tmp_path, prefix)
    assert {name: lock.pins[name] for name in lock.pins.keys() - lock.optional} == {
        "fork": "2.0",
        "core": "1",
        "below": "1",
        "rust": "1",
    }
    assert lock.optional == {"elsewhere", "more", "linter", "others", "twice"}
    assert lock.pins["twice"] == "1.0 or 2.0"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("poetry.lock", "groups = ['dev']"),
        ("poetry.lock", "category = 'dev'"),
        ("poetry.lock", "optional = true"),
        ("pdm.lock", "groups = ['test']"),
    ],
)
def test_what_only_a_group_or_an_extra_asks_for_is_optional(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(f"[[package]]\nname = 'a'\nversion = '1'\n{text}")
    lock = read_lock(tmp_path, "")
    assert lock.pins == {"a": "1"}
    assert lock.optional == {"a"}


def test_a_pylock_heeds_its_default_groups(tmp_path: Path) -> None:
    packages = [("a", "'dev' in dependency_groups"), ("b", "'docs' in dependency_groups"), ("c", "'x' in extras")]
    lines = [f'[[packages]]\nname = "{name}"\nversion = "1"\nmarker = "{marker}"' for name, marker in packages]
    (tmp_path / "pylock.toml").write_text("\n".join(["lock-version = '1.0'", "default-groups = ['dev']", *lines]))
    assert read_lock(tmp_path, "").pins == {"a": "1"}


@pytest.mark.parametrize(
    ("name", "source", "pin"),
    [
        (
            "uv.lock",
            "source = { path = 'vendor/a-1.whl' }\nwheels = [{ hash = 'sha256:ab' }]",
            "file:vendor/a-1.whl#sha256:ab",
        ),
        ("uv.lock", "source = { url = 'https://host/a-1.whl' }", "https://host/a-1.whl"),
        ("uv.lock", "source = { registry = 'https://host/simple' }", "1"),
        ("poetry.lock", "[package.source]\ntype = 'file'\nurl = 'vendor/a-1.tar.gz'", "file:vendor/a-1.tar.gz#"),
        ("poetry.lock", "[package.source]\ntype = 'legacy'\nurl = 'https://host/simple'", "1"),
        ("poetry.lock", "[package.source]\ntype = 'url'\nurl = 'https://host/a-1.whl'", "https://host/a-1.whl"),
        ("pylock.toml", "vcs = { type = 'git', url = 'https://host/a', commit-id = 'ab' }", "git+https://host/a@ab"),
        ("pylock.toml", "archive = { url = 'https://host/a-1.whl' }", "https://host/a-1.whl"),
        ("uv.lock", "source = { directory = 'libs/a' }", None),
        ("pylock.toml", "directory = { path = 'libs/a' }", None),
    ],
)
def test_a_pin_says_where_a_package_comes_from(tmp_path: Path, name: str, source: str, pin: str | None) -> None:
    table = "packages" if name == "pylock.toml" else "package"
    (tmp_path / name).write_text(f"[[{table}]]\nname = 'a'\nversion = '1'\n{source}")
    assert read_lock(tmp_path, "").pins.get("a") == pin


@pytest.mark.parametrize(
    ("text", "pins"),
    [
        ("A_b.C == 4.9", {"a-b-c": "4.9"}),
        ("a===1.0 --hash=sha256:00", {"a": "1.0"}),
        ("a[x,y]==1.0\\\n    --hash=sha256:00 \\\n    --hash=sha256:11\nb==2", {"a": "1.0", "b": "2"}),
        ("a>=1,<2", {"a": "<2,>=1"}),
        ("a", {"a": ""}),
        ("a==1.*", {"a": "==1.*"}),
        ("a>=1\na==1.2", {"a": "1.2"}),
        ("a==1\na==2", {"a": "1 or 2"}),
        ("a==1 ; sys_platform == 'win99'", {}),
        ("a==1 ; sys_platform = 'x'", {"a": "a==1 ; sys_platform = 'x'"}),
        ("a=1.0", {"a": "a=1.0"}),
        ("a @ https://me:pw@host/a.whl", {"a": "https://me:pw@host/a.whl"}),
        ("typing-extensions==4.16.0\nflask-excel==1", {"typing-extensions": "4.16.0", "flask-excel": "1"}),
        ("-e git+https://host/it@ab#egg=a", {"a": "git+https://host/it@ab#egg=a"}),
        ("https://host/a-1.0-py3-none-any.whl", {"a": "https://host/a-1.0-py3-none-any.whl"}),
        ("./vendor/a-1.0-py3-none-any.whl", {"a": "file:./vendor/a-1.0-py3-none-any.whl"}),
        ("-e .\n./libs/b\n--pre\n-i https://host\n# a==1", {}),
        ("\ufeffa==1", {"a": "1"}),
    ],
)
def test_requirements_are_read_as_by_pip(tmp_path: Path, text: str, pins: dict[str, str]) -> None:
    (tmp_path / "requirements.txt").write_text(text, encoding="utf-8")
    lock = read_lock(tmp_path, "")
    assert lock.pins == pins


def test_files_that_a_requirements_file_names_are_followed(tmp_path: Path) -> None:
    """Included paths are relative to the file that includes them."""
    files = {
        "requirements.txt": "-r more/base.txt\n-cconstraints.txt\na>=1\n",
        "more/base.txt": "--requirement=../requirements.txt\nb==1",
        "constraints.txt": "a==1.5",
        "requirements-dev.txt": "-r requirements.txt\na==9\nlinter==1",
    }
    (tmp_path / "more").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    lock = read_lock(tmp_path, "")
    assert lock.file == "requirements*.txt"
    assert lock.pins == {"a": "1.5", "b": "1", "linter": "1"}
    assert lock.optional == {"linter"}
    before = lock.text
    (tmp_path / "constraints.txt").write_text("a==1.6")
    assert read_lock(tmp_path, "").text != before


def test_requirements_that_powershell_has_written_are_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("a==1\r\n", encoding="utf-16")
    assert read_lock(tmp_path, "").pins == {"a": "1"}
