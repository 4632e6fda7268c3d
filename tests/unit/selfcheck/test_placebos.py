"""Changes that do nothing."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from plumbline.selfcheck.placebos import PLACEBOS, Placebo, applied, changed_by, copied_environment

MODULE = '''"""A module."""

from __future__ import annotations

import os

LIMIT = 3


@str
def decorated():
    return 1


def with_default(limit=LIMIT):
    return limit


def plain(number):
    return number + LIMIT


if __name__ == "__main__":
    print(plain(1), with_default(), os.sep)
'''


@pytest.mark.parametrize("placebo", sorted(PLACEBOS.keys() - {"environment"}))
def test_a_placebo_changes_what_python_compiles_and_nothing_else(tmp_path: Path, placebo: Placebo) -> None:
    file, broken = tmp_path / "module.py", tmp_path / "broken.py"
    file.write_text(MODULE)
    broken.write_text("def (")

    def output() -> str:
        return subprocess.run([sys.executable, file], capture_output=True, text=True, check=True).stdout

    before = output()
    with applied(placebo, [file, broken]) as changed:
        assert changed == 1
        assert file.read_text() != MODULE
        assert output() == before
    assert (file.read_text(), broken.read_text()) == (MODULE, "def (")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = 1\ndef one():\n    pass", "\n\ndef one():\n    pass\n\n\na = 1\n"),
        ("import os\na = 1\ndef one(a: os.PathLike, b: int = 1) -> str: ...\n", None),
        ("a = 1\ndef one():\n    pass\n\none = one()\n", ""),
        ("a = 1\ndef one(b=a):\n    pass\n", ""),
        ("a = 1\n@print\ndef one():\n    pass\n", ""),
        ("def one():\n    pass\n", ""),
    ],
    ids=["plain", "annotated", "named again", "default", "decorated", "first"],
)
def test_a_function_is_moved_only_if_its_head_needs_nothing_but_imports(before: str, after: str | None) -> None:
    changed = changed_by("order", before)
    if after is None:
        assert changed.index("import os") < changed.index("def one") < changed.index("a = 1")
    else:
        assert changed == (after or before)


def test_future_imports_stay_first() -> None:
    assert changed_by("imports", MODULE).index("import annotations") < changed_by("imports", MODULE).index("colorsys")
    compile(changed_by("imports", MODULE), "module.py", "exec")


def test_a_copied_environment_has_the_same_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Python imports them from another folder."""
    venv.create(tmp_path / "venv", with_pip=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))
    [packages] = tmp_path.glob("venv/lib/python*/site-packages")
    packages.joinpath("shop.py").write_text("VERSION = 1")
    with copied_environment() as python:
        assert python is not None
        version, file = subprocess.check_output(
            [python, "-c", "import shop; print(shop.VERSION, shop.__file__)"], text=True
        ).split()
    assert (version, Path(file).name) == ("1", "shop.py")
    assert tmp_path not in Path(file).parents
    assert not Path(file).exists()


def test_without_a_virtual_environment_there_is_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    with copied_environment() as python:
        assert python is None
