import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from plumbline.reporting.html import page
from tests.support.chromium import Chromium
from tests.support.report_samples import many


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome"))
    binary = next(filter(None, found), None)
    if binary is None:
        if "CI" in os.environ:
            pytest.fail("there is no Chromium to look at the report with")
        pytest.skip("there is no Chromium to look at the report with")
    browser = Chromium(binary, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.stop()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page.render(*many(count=20)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def large_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page.render(*many(count=2000, runs=5, samples=20)), encoding="utf-8")
    return path
