"""`plumbline doctor` on small projects: each failed line says what to change."""

import platform
import re
import textwrap

import pytest

from tests.support.project import SETTINGS, Project

APPLICATION = """
    import os

    import asyncpg
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    KEY = os.environ["SHOP_KEY"]
    LEVEL = os.getenv("LEVEL", "info")
    OPEN = []


    async def health(request):
        return PlainTextResponse("well")


    async def items(request):
        connection = await asyncpg.connect(os.environ["DATABASE_URL"])
        OPEN.append(connection)  # as in a pool
        return PlainTextResponse(str(await connection.fetchval("SELECT count(*) FROM item")))


    async def private(request):
        return PlainTextResponse("", status_code=401)


    app = Starlette(routes=[Route("/health", health), Route("/items", items), Route("/me", private)])
"""
PREPARE = """
    import asyncio
    import os

    import asyncpg


    async def prepare():
        connection = await asyncpg.connect(os.environ["DATABASE_URL"])
        await connection.execute("CREATE TABLE item (name text)")
        await connection.close()


    asyncio.run(prepare())
"""
URL = 'DATABASE_URL = "{postgres.url}"\n'
TABLES = f"""
[env]
{URL}SHOP_KEY = "k"

[redis]
backend = "off"

[install]
application = "off"

[app]
asgi = "shop:app"
"""


@pytest.fixture
def shop(project: Project) -> Project:
    """A project with an application, a database and one commit."""
    (project.root / "shop.py").write_text(textwrap.dedent(APPLICATION))
    (project.root / "prepare.py").write_text(textwrap.dedent(PREPARE))
    settings = SETTINGS.replace('backend = "off"', 'backend = "embedded"\nprepare = ["python", "prepare.py"]', 1)
    project.write("settings.toml", settings + TABLES)
    project.write("requirements.txt", "")
    (project.root / ".gitignore").write_text(".env\n")
    project.git("init", "--quiet", "--initial-branch=main")
    project.commit()
    return project


def doctor(project: Project, **environ: str) -> tuple[int, dict[str, str]]:
    """Return the exit code, and the lines of each check by its name."""
    done = project.own_python("-m", "plumbline", "doctor", **environ)
    assert "bug in Plumbline" not in done.output
    found: dict[str, str] = {}
    for line in done.output.splitlines():
        name = line[8:20].strip() if line[:1] in "ofs" and len(line) > 20 else next(reversed(found), "")
        found[name] = f"{found.get(name, '')}\n{line}".strip()
    return done.code, found


def test_a_sound_project(shop: Project) -> None:
    code, found = doctor(shop)
    assert code == 0, found
    assert {name: text.split()[0] for name, text in found.items()} == {
        **dict.fromkeys(("settings", "files", "install", "servers", "prepare", "application", "variables"), "ok"),
        **dict.fromkeys(("routes", "base"), "ok"),
    }
    assert "postgres: embedded PostgreSQL" in found["servers"]
    assert "prepare connects to this run's postgres, and to no other PostgreSQL or Redis" in found["prepare"]
    assert "app connects to this run's postgres, and to no other PostgreSQL or Redis" in found["application"]
    assert "3 read: 2 set by [env]" in found["variables"]
    assert "2 of 3 GET routes without parameters answer with 2xx: /health, /items" in found["routes"]
    assert "others: /me with 401 (needs a login)" in found["routes"]
    assert "(the last commit) starts" in found["base"]
    here = f"Python {platform.python_version()}; 0 packages for tests/performance/requirements.txt"
    assert found["install"] == f"ok      install      {here}; there is no lock file"


def test_what_a_pipeline_lacks_and_what_fails(shop: Project) -> None:
    """A variable of a `.env` file, and a route without its table. Git has neither."""
    shop.edit("settings.toml", 'SHOP_KEY = "k"\n', "")
    shop.edit("settings.toml", 'prepare = ["python", "prepare.py"]\n', "")
    (shop.root / ".env").write_text("SHOP_KEY=hush-hush-42\n")
    (shop.root / ".gitignore").write_text(".env\n*.lock\nconftest.py\n")
    shop.write("conftest.py", "")
    (shop.root / "poetry.lock").write_text('[metadata]\nlock-version = "2.1"\n')
    (shop.root / "shop.py").write_text(
        "from pathlib import Path\nimport os\n\n"
        "os.environ.setdefault(*Path('.env').read_text().strip().split('='))\n" + textwrap.dedent(APPLICATION)
    )
    code, found = doctor(shop)
    assert code == 3
    assert found["variables"].startswith("failed  variables    SHOP_KEY comes from .env, which git does not have")
    assert 'add SHOP_KEY = "plumbline' in found["variables"]  # a value of the usual length of a key
    assert '" to [env] in tests/performance/settings.toml' in found["variables"]
    assert "hush" not in str(found)
    assert found["routes"].startswith(
        "failed  routes       GET /items has status 500 (asyncpg.exceptions.UndefinedTable"
    )
    assert re.search(r", shop\.py:\d+\)", found["routes"])
    assert found["files"].startswith("failed  files        git ignores tests/performance/conftest.py (.gitignore:3:")
    assert "git ignores poetry.lock (.gitignore:2:*.lock): pipelines lack it" in found["files"]
    assert found["application"].startswith("ok")


def test_a_base_that_does_not_start(shop: Project) -> None:
    """The base commit lacks the route that tells when the application is ready."""
    (shop.root / "shop.py").write_text(textwrap.dedent(APPLICATION).replace("/health", "/healthz"))
    code, found = doctor(shop)
    assert code == 3
    assert '/healthz answers with 200: health_path = "/healthz" in [app]' in found["application"]
    assert found["base"].startswith("skipped")

    shop.edit("settings.toml", 'asgi = "shop:app"', 'asgi = "shop:app"\nhealth_path = "/healthz"')
    code, found = doctor(shop)
    assert code == 3
    assert found["application"].startswith("ok")
    assert found["base"].startswith("failed")
    assert "there is no route /healthz" in found["base"]


def test_a_server_that_nothing_uses(shop: Project) -> None:
    """The variable has a name that the code does not read, and the code has a default of its own."""
    shop.edit("settings.toml", "DATABASE_URL =", "SHOP_DATABASE =")
    shop.edit("settings.toml", 'prepare = ["python", "prepare.py"]\n', "")
    source = textwrap.dedent(APPLICATION).replace('os.environ["DATABASE_URL"]', 'os.getenv("DB", "")')
    (shop.root / "shop.py").write_text(source.replace("await asyncpg.connect", "print"))
    code, found = doctor(shop)
    assert code == 3
    assert "nothing connects to postgres, and the project's code does not read SHOP_DATABASE" in found["application"]
    assert "DB" in found["application"]


def test_a_server_that_is_off(shop: Project) -> None:
    """A stage that needs it is skipped, not ok."""
    code, found = doctor(shop, PERF_SERVICES="off")
    assert code == 0
    assert "postgres skipped: postgres is off: PERF_SERVICES=off" in found["servers"]
    for name in ("prepare", "application"):
        assert "it needs postgres, which is off" in found[name]
    assert {found[name].split()[0] for name in ("prepare", "application", "routes", "base")} == {"skipped"}


@pytest.mark.parametrize("has_git", [True, False])
def test_without_a_base(shop: Project, has_git: bool) -> None:
    """A project without git, or without a commit, is sound: only the last check is skipped."""
    (shop.root / ".git").rename(shop.root / ".no-git")
    if has_git:
        shop.git("init", "--quiet")
    code, found = doctor(shop)
    assert code == 0, found
    assert found["base"].startswith("skipped base         there is no base commit: ")


@pytest.mark.parametrize(
    ("old", "new", "check", "message"),
    [
        ("[app]", "[ap]", "settings", "unknown key 'ap'"),
        ("{postgres.url}", "{postgres.uri}", "settings", "there is no {postgres.uri}"),
        ('asgi = "shop:app"', 'asgi = "shop:app"\npython = "nowhere"', "environment", "python = 'nowhere' of [app]"),
        (
            'asgi = "shop:app"',
            'asgi = "shop:app"\nenvironment = "own"',
            "environment",
            "next        add one of these files",
        ),
        ('"prepare.py"', '"nothing.py"', "prepare", "can't open file"),
        ('SHOP_KEY = "k"\n', "", "variables", "nothing sets SHOP_KEY, which shop.py:9 reads"),
        (URL, "", "variables", f"nothing sets DATABASE_URL, which prepare.py:9 reads: add {URL}to [env]"),
    ],
    ids=["settings", "placeholder", "python", "environment", "prepare", "variable", "server"],
)
def test_what_is_wrong(shop: Project, old: str, new: str, check: str, message: str) -> None:
    shop.edit("settings.toml", old, new)
    code, found = doctor(shop)
    assert code == 3
    assert found[check].startswith("failed"), found
    assert message.replace("\n", " ") in found[check]


def test_readiness_has_the_checks(shop: Project) -> None:
    """They come before its tests, and a check that failed is not green: here the one of the base."""
    shop.edit("settings.toml", 'asgi = "shop:app"', 'asgi = "shop:app"\nhealth_path = "/healthz"')
    (shop.root / "shop.py").write_text(textwrap.dedent(APPLICATION).replace("/health", "/healthz"))
    shop.write("test_suite.py", "import pytest\n\n\n@pytest.mark.readiness\ndef test_one() -> None:\n    pass\n")
    done = shop.own_python("-m", "plumbline", "readiness")
    assert done.code == 3, done.output
    assert "ok      application  app connects" in done.output
    assert "failed  base         a copy of " in done.output
    assert "invalid: failed checks: base (see above)" in done.output
