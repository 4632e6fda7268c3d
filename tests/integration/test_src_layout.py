"""An application in a src layout that is not installed: its code is imported from `directory`."""

import textwrap

from tests.support.project import SETTINGS, Project

APPLICATION = """
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def health(request):
        return PlainTextResponse("well")

    app = Starlette(routes=[Route("/health", health)])
"""
PREPARE = """
    import pathlib

    import myapp.app

    pathlib.Path("prepared").touch()
"""
WORKER = """
    import time

    import myapp.app

    print("worker ready")
    time.sleep(100)
"""
SUITE = """
    import subprocess
    import sys
    from pathlib import Path

    import myapp.app


    def test_all_of_it_runs(services, measure):
        assert Path("prepared").exists()
        assert services.processes["worker"].state() == "running"
        subprocess.run([sys.executable, "-c", "import myapp.app"], check=True)
        for timer in measure():
            with timer:
                sum(range(1000))
"""
TABLES = """
[app]
asgi = "myapp.app:app"
directory = "src"

[processes.worker]
command = ["python", "-m", "myapp.worker"]
ready_output = "worker ready"
"""


def test_a_src_layout_needs_only_the_setting_directory(project: Project) -> None:
    """`prepare`, the processes, the tests and their children import from it."""
    package = project.root / "src" / "myapp"
    package.mkdir(parents=True)
    for name, text in {"__init__": "", "app": APPLICATION, "prepare": PREPARE, "worker": WORKER}.items():
        (package / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
    project.write("settings.toml", f'prepare = ["python", "-m", "myapp.prepare"]\n{SETTINGS}{TABLES}')
    project.write("test_suite.py", textwrap.dedent(SUITE))

    done = project.run("ci")

    assert done.code == 0, done.output


def test_prepare_runs_for_benchmarks_without_an_application(project: Project) -> None:
    """The tables that it creates are there."""
    prepare = """
        import asyncio, os
        import asyncpg

        async def work():
            connection = await asyncpg.connect(os.environ["MY_URL"])
            await connection.execute("CREATE TABLE item (id int)")
            await connection.close()

        asyncio.run(work())
    """
    suite = """
        import asyncpg

        async def test_items(postgres_url, measure):
            connection = await asyncpg.connect(postgres_url)
            async for timer in measure():
                with timer:
                    await connection.fetch("SELECT * FROM item")
            await connection.close()
    """
    (project.root / "prepare.py").write_text(textwrap.dedent(prepare))
    head = 'prepare = ["python", "prepare.py"]\n'
    tables = '\n[env]\nMY_URL = "{postgres.url}"\n\n[postgres]\nbackend = "embedded"\n'
    project.write("settings.toml", f"{head}{SETTINGS}{tables}")
    project.write("test_suite.py", textwrap.dedent(suite))
    done = project.run("ci")
    assert done.code == 0, done.output
