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


def test_paths_of_packages_are_their_top_level_files_and_folders(tmp_path: Path) -> None:
    """Their top-level files and folders; nothing of a missing package, and nothing outside."""
    install(tmp_path, "pure", ["pure/__init__.py", "pure/deep/er.py", "_pure.py", "__pycache__/_pure.cpython-311.pyc"])
    install(tmp_path, "tool", ["../../bin/tool", "tool.py"])
    install(tmp_path, "fast", ["fast/__init__.py", "fast/_fast.cpython-311-x86_64-linux-gnu.so"])
    found = paths_of_packages(["pure", "tool", "fast", "absent"], [str(tmp_path)])
    pure = dict.fromkeys([tmp_path / "pure", tmp_path / "_pure.py", tmp_path / "tool.py"], EVERY)
    assert found == {**pure, tmp_path / "fast": None}


@pytest.mark.parametrize("files", [["early/__init__.py", "early.pth"], None], ids=["at the start", "no record"])
def test_paths_are_unknown_without_a_record_or_with_code_at_the_start(tmp_path: Path, files: list[str] | None) -> None:
    install(tmp_path, "pure", ["pure/__init__.py"])
    install(tmp_path, "early", files)
    assert paths_of_packages(["pure", "early"], [str(tmp_path)]) is None


def test_packages_of_this_environment_are_found() -> None:
    found = paths_of_packages(["pytest"])
    assert found is not None
    assert Path(pytest.__file__).parent in found
