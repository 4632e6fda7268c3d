from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from plumbline.adopting.find import find
from plumbline.adopting.findings import Findings

Search = Callable[..., Findings]


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Write files below a folder, and return what is found in them, or in one of its folders."""

    def write_and_find(files: dict[str, str], folder: str = ".") -> Findings:
        for name, text in files.items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        return find(tmp_path / "project" / folder)

    return write_and_find
