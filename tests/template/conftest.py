"""Fixtures for the tests of the template."""

import pytest

from tests.harness.conftest import environments
from tests.harness.repository import Repository

from .copies import make_template

__all__ = ["environments"]  # the harness's tests have it as well


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """This repository as a template, to be read only."""
    return make_template(tmp_path_factory.mktemp("template") / "plumbline")
