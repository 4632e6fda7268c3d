"""A password with every special character, and a suite that prints it."""

import json
from pathlib import Path
from urllib.parse import quote

import redis

from tests.support.fixtures import MakeServices
from tests.support.project import SETTINGS, Project
from tests.unit.services.test_embedded import server

PASSWORD = """p@s!$/w o'r"d%é&<2+"""
EMBEDDED = SETTINGS.replace('backend = "off"', 'backend = "embedded"') + '\n[postgres]\nbackend = "off"\n'
SUITE = """\
import base64, html, json, os, shlex, subprocess, sys, warnings
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, urlsplit

import pytest

URL = os.environ["APP_URL"]
PASSWORD = unquote(urlsplit(URL).password)
FORMS = [
    PASSWORD, quote(PASSWORD), quote(PASSWORD, safe="").replace("%2F", "%2f"), quote_plus(PASSWORD), repr(PASSWORD),
    json.dumps(PASSWORD), shlex.quote(PASSWORD), html.escape(PASSWORD), ascii(PASSWORD),
    PASSWORD[:9] + "\\n" + PASSWORD[9:], base64.b64encode(f":{PASSWORD}".encode()).decode(), URL,
]
Path(os.environ["TOLD"]).write_text(json.dumps(FORMS))


@pytest.mark.parametrize("url", [URL, PASSWORD], ids=["url-" + URL, PASSWORD])
def test_parameter(url, measure):
    for timer in measure():
        with timer:
            sum(range(1000))


@pytest.mark.parametrize("form", FORMS)
def test_forms(form, record_property):
    record_property("form", form)
    print("printed", form)
    warnings.simplefilter("default")
    warnings.warn("warned " + form)
    assert form + "x" * 300 == form + "y" * 300, "asserted " + form


@pytest.mark.skip(reason="skipped " + URL)
def test_skipped():
    pass


def test_children():
    seen = subprocess.check_output([sys.executable, "-c", "import os; print(*os.environ)"], text=True)
    assert not {"PERF_REDIS_URL", "PERF_DATABASE_URL", "PERF_API_URL"} & {*seen.split(), *os.environ}
"""


def test_no_encoding_of_a_password_is_shown(tmp_path: Path, make_services: MakeServices) -> None:
    """Neither in the terminal nor in a file of pytest or Plumbline. Keys are the same in each run."""
    project = Project.create(tmp_path / "project", tmp_path)
    project.write("settings.toml", EMBEDDED.replace("[profiles.ci]", '[env]\nAPP_URL = "{redis.url}"\n[profiles.ci]'))
    project.write("test_suite.py", SUITE)
    told = tmp_path / "told.json"
    arguments = ["-m", "plumbline", "ci", "--", "--showlocals", "-rA", "--tb=long", "-o", "junit_family=xunit1"]
    arguments.append(f"--junitxml={project.root}/perf-results/own.xml")
    services = make_services(EMBEDDED)
    services.begin()
    services.wait_ready()
    address = server(services.redis).address
    with redis.Redis.from_url(address.url) as client:
        client.config_set("requirepass", PASSWORD)
    url = f"redis://:{quote(PASSWORD, safe='!$')}@{address.host}:{address.port}/0"

    done = project.own_python(*arguments, PERF_REDIS_URL=url, TOLD=str(told))

    assert done.code == 1, done.output
    assert "test_children" not in [test["key"] for test in project.results()["tests"] if test["outcome"] == "failed"]
    texts = {path.name: path.read_text(encoding="utf-8") for path in project.root.glob("perf-results/**/*.*")}
    assert {"results.json", "report.md", "junit.xml", "own.xml"} <= texts.keys()
    forms = json.loads(told.read_text(encoding="utf-8"))
    for name, text in {"output": done.output, **texts}.items():
        for form in [*forms, quote(PASSWORD, safe=""), "o'r\\\"d", "s!$/w", "s%21"]:
            assert form not in text, (name, form)
    names = {test["key"].partition("[")[2] for test in project.results()["tests"] if "parameter" in test["key"]}
    assert names == {f"url-redis://:***@{address.host}:{address.port}/0]", "***]"}
    assert "asserted ***" in done.output
