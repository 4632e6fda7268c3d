"""Fixtures for the tests of the template."""

from pathlib import Path

import pytest

from tests.harness.project import make_environments
from tests.harness.repository import Repository

from .copies import make_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """This repository as a template, to be read only."""
    return make_template(tmp_path_factory.mktemp("template") / "plumbline")


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Virtual environments of the sessions, made once."""
    folder = tmp_path_factory.mktemp("environments")
    make_environments(folder)
    return folder
