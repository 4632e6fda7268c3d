"""The lines of `plumbline doctor`, from what a trial has seen."""

from plumbline.adopting.checks import Check, checks_of
from plumbline.adopting.tried import Answer, ReadVariable, Route, Tried
from plumbline.settings import AppSettings, Settings

SETTINGS = Settings(env={"DATABASE_URL": "{postgres.url}"}, app=AppSettings(asgi="shop:app"))


def check(name: str, tried: Tried, settings: Settings = SETTINGS, *, in_pipeline: bool = False) -> Check:
    found = checks_of(tried, settings, in_git=lambda file: file == "default.env", in_pipeline=in_pipeline)
    return next(one for one in found if one.name == name)


def answer(path: str, status: int, error: str = "") -> Answer:
    return Answer(Route("GET", path), status, 0.1, error)


def test_variables_that_a_pipeline_may_lack() -> None:
    """Only what the code needs is a failure, and in a pipeline nothing that has a value."""
    needed = ReadVariable("KEY", ".env", required=True, file=".env")
    shell = ReadVariable("TOKEN", "environment", required=True)
    optional = ReadVariable("LEVEL", ".env", required=False, file=".env")
    in_git = ReadVariable("NAME", ".env", required=True, file="default.env")

    failed = check("variables", Tried(variables=(needed, shell, optional, in_git)))
    assert failed.outcome == "failed"
    assert [line.split()[0] for line in failed.text.splitlines()] == ["KEY", "TOKEN"]
    passed = check("variables", Tried(variables=(optional, in_git)))
    assert passed.outcome == "ok"
    assert "LEVEL comes from .env, which git does not have" in passed.text
    assert check("variables", Tried(variables=(needed, shell)), in_pipeline=True).outcome == "ok"


def test_a_variable_that_nothing_sets_fails_if_anything_else_does() -> None:
    """A class of settings may be defined and never used."""
    tried = Tried(variables=(ReadVariable("KEY", "", required=True, seen="shop.Settings.key"),))
    assert check("variables", tried).outcome == "ok"
    broken = Tried(variables=tried.variables, answers=(answer("/", 500),))
    assert check("variables", broken).text.startswith("nothing sets KEY, which shop.Settings.key reads: add KEY = ")


def test_routes() -> None:
    """Each route that does not answer has its status. A login is no failure; an answer that does not end is one."""
    good = (answer("/a", 200), answer("/b", 204), answer("/me", 401), answer("/old", 301))
    passed = check("routes", Tried(answers=good, left_out=(Route("GET", "/logout"),)))
    assert (passed.outcome, passed.text.splitlines()) == (
        "ok",
        [
            "2 of 4 GET routes without parameters answer with 2xx: /a, /b",
            "others: /me with 401 (needs a login), /old with 301",
            "not requested, as they may change something: /logout",
        ],
    )
    for bad in (answer("/bad", 503, "Gone"), answer("/bad", 200, "did not end"), answer("/bad", 0, "no answer")):
        failed = check("routes", Tried(answers=(*good, bad)))
        assert failed.outcome == "failed"
        assert failed.text.startswith("GET /bad has ")
        assert bad.error in failed.text
    many = check(
        "routes", Tried(answers=tuple(answer(f"/{number}", 200 + 204 * (number > 11)) for number in range(24)))
    )
    assert "answer with 2xx: /0, /1, /2, /3, /4, /5, /6, /7, /8, /9 and 2 more\n" in many.text
    assert many.text.count(" with 404") == 12


def test_a_health_path_is_suggested() -> None:
    """A path that looks like one goes first."""
    tried = Tried(failed="application", message="app is not ready", answers=(answer("/a", 200), answer("/up", 200)))
    assert 'health_path = "/up" in [app] of tests/performance/settings.toml' in check("application", tried).text


def test_a_server_without_a_connection() -> None:
    """It may be needed by routes with parameters, but not if the code does not read its address."""
    read = ReadVariable("DATABASE_URL", "env", required=True)
    assert check("application", Tried(variables=(read,))) == Check(
        "application", "ok", "ready; no connection to postgres yet"
    )
    tried = Tried(variables=(ReadVariable("DB", "default", required=False),))
    failed = check("application", tried)
    assert failed.outcome == "failed"
    assert "does not read DATABASE_URL; it reads DB" in failed.text
    prepared = Tried(variables=tried.variables, touched={"prepare": ("postgres",), "app": ()})
    assert check("application", prepared).outcome == "ok"


def test_tables_that_get_no_made_up_rows() -> None:
    """`prepare` succeeds: the other tables have rows."""
    settings = Settings(prepare=["python", "-m", "plumbline.seed"])

    found = check("prepare", Tried(left_empty=("odd: left empty: CheckViolationError",)), settings)

    lines = ["it ended with exit code 0", "plumbline.seed leaves a table empty: odd: CheckViolationError"]
    assert (found.outcome, found.text.splitlines()) == ("ok", lines)
