"""The application's output in the report of a failed test."""

import textwrap

from tests.support.project import SETTINGS, Project

APPLICATION = """
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def answer(request):
        if request.url.path != "/health":
            print("asked for", request.url.path, "by postgresql://me:a-password@localhost/x")
            raise ValueError(f"the cause of {request.url.path}")
        return PlainTextResponse("well")

    app = Starlette(routes=[Route("/{path}", answer)])
"""
SUITE = """
    import httpx


    def test_one(api_url):
        assert httpx.get(f"{api_url}/one").status_code == 200


    def test_other(api_url):
        assert httpx.get(f"{api_url}/other").status_code == 200
"""


def test_the_application_s_output_is_shown_with_the_failed_test_and_saved(project: Project) -> None:
    """The report has the output during the test, and a file has all of it. Neither has passwords."""
    (project.root / "shop.py").write_text(textwrap.dedent(APPLICATION))
    project.write("settings.toml", f'{SETTINGS}\n[app]\nasgi = "shop:app"\n')
    project.write("test_suite.py", textwrap.dedent(SUITE))

    done = project.run("ci")

    assert done.code == 3, done.output  # no test measured anything
    assert done.output.count("output of app") == 2
    assert "ValueError: the cause of /one" in done.output
    messages = {test["key"].partition("::test_")[2]: test["message"] for test in project.results()["tests"]}
    for name, other in (("one", "other"), ("other", "one")):
        assert f"ValueError: the cause of /{name}" in messages[name]
        assert f"/{other}" not in messages[name]
    kept = (project.root / "perf-results" / "app.log").read_text(encoding="utf-8")
    assert all(f"asked for /{name} by postgresql://me:***@localhost/x" in kept for name in messages)
    assert "a-password" not in done.output + kept
