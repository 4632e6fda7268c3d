"""The lines for the user's own tools."""

from pathlib import Path

from plumbline.adopting.tools import lines_to_add, shown
from tests.template.copies import write_files

SUITE = {"tests/performance/settings.toml": "", "noxfile.py": ""}
SOURCE = {"tests/performance/vendor/src/plumbline/__init__.py": ""}


def test_only_the_tools_that_are_used(tmp_path: Path) -> None:
    write_files(
        tmp_path, {**SUITE, **SOURCE, "pyproject.toml": "[tool.ruff]\n# like black\n", "Makefile": "x:\n\tpylint"}
    )

    assert lines_to_add(tmp_path) == []


def test_the_file_that_configures_a_tool(tmp_path: Path) -> None:
    """It is not asked for again. Without the package's source, black and isort have nothing to complain of."""
    setup = "[mypy]\nstrict = true\n\n[isort]\nprofile = black\n\n[flake8]\nmax-line-length = 100\n"
    hooks = "repos:\n  - hooks: [{id: black}]\n"
    write_files(tmp_path, {**SUITE, "setup.cfg": setup, ".pre-commit-config.yaml": hooks, ".coveragerc": "[run]\n"})
    assert dict(lines_to_add(tmp_path)) == {
        "setup.cfg": "[mypy]\nexclude = ^tests/performance/|^noxfile.py$",
        ".coveragerc": "[run]\nomit = tests/performance/*,noxfile.py",
    }
    write_files(tmp_path, SOURCE)

    added = lines_to_add(tmp_path)

    assert dict(added)["setup.cfg"].endswith(
        "[isort]\nextend_skip = tests/performance/vendor\n\n[flake8]\nextend-exclude = tests/performance,noxfile.py"
    )
    assert dict(added)["pyproject.toml"] == '[tool.black]\nextend-exclude = "^/tests/performance/vendor/"'
    assert dict(added)[".pre-commit-config.yaml"] == "exclude: ^tests/performance/vendor/"
    assert shown(added).startswith("Add to setup.cfg:\n\n    [mypy]\n    exclude = ")


def test_a_folder_of_a_larger_repository(tmp_path: Path) -> None:
    files = {f"services/shop/{name}": text for name, text in SUITE.items()}
    write_files(tmp_path, {**files, "pyproject.toml": "[tool.mypy]\nstrict = true\n"})

    assert lines_to_add(tmp_path, "services/shop/") == [
        ("pyproject.toml", '[tool.mypy]\nexclude = ["^services/shop/tests/performance/", "^services/shop/noxfile.py$"]')
    ]
