"""Fixtures for the tests of the template."""

import pytest

from tests.support.fixtures import environments
from tests.support.repository import Repository

from .copies import make_template

__all__ = ["environments"]  # the harness's tests have it as well


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """This repository as a template. Do not change it."""
    return make_template(tmp_path_factory.mktemp("template") / "plumbline")
