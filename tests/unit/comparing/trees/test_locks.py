from pathlib import Path

import pytest

from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.locks import locked_versions

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


def test_a_lock_file_of_a_workspace_counts(tmp_path: Path) -> None:
    """A lock file above the project counts, up to the tree's root, and the nearest wins."""
    (tmp_path / "tree" / "services" / "api").mkdir(parents=True)
    (tmp_path / "requirements.txt").write_text("outside==1")
    assert locked_versions(tmp_path / "tree", "services/api/") == ("", {})
    (tmp_path / "tree" / "requirements.txt").write_text("shared==1")
    assert locked_versions(tmp_path / "tree", "services/api/")[1] == {"shared": "1"}
    (tmp_path / "tree" / "services" / "api" / "requirements.txt").write_text("own==1")
    assert locked_versions(tmp_path / "tree", "services/api/")[1] == {"own": "1"}


def test_a_damaged_lock_file_is_named(tmp_path: Path) -> None:
    """A lock file with a merge conflict in it is named."""
    (tmp_path / "uv.lock").write_text("<<<<<<< HEAD")
    with pytest.raises(NoBase, match=r"uv\.lock can't be read"):
        locked_versions(tmp_path, "")
