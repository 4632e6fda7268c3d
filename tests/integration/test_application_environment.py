"""An application whose packages conflict with Plumbline's: it runs in its own environment."""

import textwrap
from pathlib import Path

import pytest

from tests.support.project import SETTINGS, Project

APPLICATION = """
    import httpx
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    assert httpx.__version__ == "0.23.3"

    async def health(request):
        return PlainTextResponse("well")

    app = Starlette(routes=[Route("/health", health)])
"""
PREPARE = "import httpx\n\nassert httpx.__version__ == '0.23.3'\n"
SUITE = """
    import httpx


    def test_asking(api_url, measure):
        assert httpx.__version__ > "0.26"
        with httpx.Client(base_url=api_url, trust_env=False) as client:
            for timer in measure():
                with timer:
                    client.get("/health")


    def test_alone(measure):
        for timer in measure():
            with timer:
                sum(range(1000))
"""
LIMITS = "tolerance = 0.2\nminimum_effect = 0.9\n"
ASKING, ALONE = "test_suite.py::test_asking", "test_suite.py::test_alone"


@pytest.fixture
def shop(project: Project) -> Project:
    """A project that needs an older httpx than Plumbline, and another version of Starlette than its base."""
    settings = f'prepare = ["python", "prepare.py"]\n{SETTINGS}{LIMITS}[app]\nasgi = "shop:app"\nenvironment = "own"\n'
    project.write("settings.toml", settings)
    project.write("test_suite.py", textwrap.dedent(SUITE))
    (project.root / "shop.py").write_text(textwrap.dedent(APPLICATION))
    (project.root / "prepare.py").write_text(PREPARE)
    (project.root / "requirements.txt").write_text("httpx==0.23.3\nstarlette==0.46.2\nuvicorn==0.35.0\n")
    project.git("init", "--quiet", "--initial-branch=main")
    project.commit("Start")
    (project.root / "requirements.txt").write_text("httpx==0.23.3\nstarlette==0.47.3\nuvicorn==0.35.0\n")
    project.commit("Starlette")
    return project


def test_each_side_serves_the_application_from_its_own_lock_file(shop: Project, tmp_path: Path) -> None:
    """`prepare` too. If `python` names an existing environment, both sides use it, and the change cannot be judged."""
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = shop.run("compare", "HEAD~1", "--limit=30", **cache)
    assert done.code == 0, done.output
    assert "starlette 0.46.2 → 0.47.3" in done.output
    assert "the application's environment for requirements.txt" in done.output
    assert shop.verdicts()[ALONE] == "pass"
    assert {one["key"]: one["reasons"][0]["kind"] for one in shop.results()["benchmarks"]} == {
        ASKING: "compared",
        ALONE: "unaffected",
    }

    [python] = [
        one
        for one in (tmp_path / "cache").glob("plumbline/sides/applications/*/bin/python")
        if list(one.parents[1].glob("lib/*/site-packages/starlette-0.47.3.dist-info"))
    ]
    shop.edit("settings.toml", 'environment = "own"', f'python = "{python}"')
    done = shop.run("compare", "HEAD~1", "--limit=30", **cache)
    assert done.code == 0, done.output
    assert shop.verdicts() == {ASKING: "inconclusive", ALONE: "pass"}
    [unjudged] = shop.results()["unjudged_packages"]
    assert (unjudged["name"], unjudged["cause"]) == ("starlette", "one_environment")
    assert "starlette 0.46.2 → 0.47.3 (requirements.txt) was not compared" in done.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('environment = "own"', 'python = "nowhere"', "python = 'nowhere' of [app] in settings.toml can't be run"),
        ("", "httpx==0.1\n", "the application's own environment can't be made for requirements.txt:"),
    ],
    ids=["missing", "no such version"],
)
def test_an_unavailable_environment_is_named(shop: Project, old: str, new: str, message: str) -> None:
    if old:
        shop.edit("settings.toml", old, new)
    else:
        (shop.root / "requirements.txt").write_text(new)
    done = shop.run("ci")
    assert done.code == 3, done.output
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
