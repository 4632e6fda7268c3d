from pathlib import Path

import pytest

from plumbline.comparing.trees.changed_functions import EVERY
from plumbline.comparing.trees.changed_paths import paths_of_packages


def install(site: Path, name: str, files: list[str] | None) -> None:
    """A package as an installer leaves it."""
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    if files is not None:
        (folder / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{folder.name}/METADATA"]))


def test_where_packages_lie(tmp_path: Path) -> None:
    """Their top-level files and folders; nothing of one that isn't there, nor what lies outside."""
    install(tmp_path, "pure", ["pure/__init__.py", "pure/deep/er.py", "_pure.py", "__pycache__/_pure.cpython-311.pyc"])
    install(tmp_path, "tool", ["../../bin/tool", "tool.py"])
    install(tmp_path, "fast", ["fast/__init__.py", "fast/_fast.cpython-311-x86_64-linux-gnu.so"])
    found = paths_of_packages(["pure", "tool", "fast", "absent"], [str(tmp_path)])
    pure = dict.fromkeys([tmp_path / "pure", tmp_path / "_pure.py", tmp_path / "tool.py"], EVERY)
    assert found == {**pure, tmp_path / "fast": None}


@pytest.mark.parametrize("files", [["early/__init__.py", "early.pth"], None], ids=["at the start", "no record"])
def test_packages_of_which_it_is_not_known(tmp_path: Path, files: list[str] | None) -> None:
    install(tmp_path, "pure", ["pure/__init__.py"])
    install(tmp_path, "early", files)
    assert paths_of_packages(["pure", "early"], [str(tmp_path)]) is None


def test_our_own_packages_are_found() -> None:
    found = paths_of_packages(["pytest"])
    assert found is not None
    assert Path(pytest.__file__).parent in found
