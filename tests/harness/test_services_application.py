"""Code under test is started, watched, hurt and stopped: real applications, real processes, real servers."""

import http.server
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest
import redis as redis_client

from tests.performance.harness.readiness import NotReady, run_alone
from tests.performance.harness.services import Service, Services, application
from tests.performance.harness.services.address import Address
from tests.performance.harness.services.application import Application, Process, run_prepare
from tests.performance.harness.services.run import Run
from tests.performance.harness.settings import AppSettings, ProcessSettings, Settings

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 30.0
"""Long enough to be met on a slow machine: no test waits it out."""

HEALTHY = """
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def health(request):
        return PlainTextResponse("well")

    app = Starlette(routes=[Route("/health", health)])
"""

StartApplication = Callable[..., Application]
StartProcess = Callable[..., Process]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    run = Run()
    run.begin()
    yield run
    run.end()


@pytest.fixture
def start_application(tmp_path: Path, run: Run) -> Iterator[StartApplication]:
    """Writes `source` as sample.py and starts it."""
    started: list[Application] = []

    def start(source: str = HEALTHY, asgi: str = "sample:app", **settings: object) -> Application:
        (tmp_path / "sample.py").write_text(textwrap.dedent(source), encoding="utf-8")
        app = Application(AppSettings(asgi=asgi, **settings), tmp_path, {}, run)  # type: ignore[arg-type]
        started.append(app)
        app.start()
        return app

    yield start
    for app in started:
        app.stop()


@pytest.fixture
def start_process(tmp_path: Path, run: Run) -> Iterator[StartProcess]:
    """Writes `source` as worker.py and starts `python worker.py`, or another command."""
    started: list[Process] = []

    def start(
        source: str = "",
        ready_output: str = "",
        command: tuple[str, ...] = ("python", "worker.py"),
        environment: dict[str, str | None] | None = None,
        secrets: tuple[Address, ...] = (),
        directory: str = ".",
    ) -> Process:
        (tmp_path / "worker.py").write_text(textwrap.dedent(source), encoding="utf-8")
        settings = ProcessSettings(command=list(command), ready_output=ready_output, directory=directory)
        process = Process("worker", settings, tmp_path, environment or {}, run, secrets)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.stop()


def until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def answers(url: str) -> bool:
    try:
        httpx.get(url)
    except httpx.TransportError:
        return False
    return True


def failure(app: Process, limit_s: float = LIMIT_S) -> str:
    """What is told about an application that doesn't become ready."""
    with pytest.raises(NotReady) as caught:
        app.wait_ready(limit_s)
    return str(caught.value)


# ---- an ASGI application


def test_an_application_answers_at_its_address_once_it_is_ready(start_application: StartApplication) -> None:
    app = start_application()

    app.wait_ready(LIMIT_S)

    assert httpx.get(f"{app.address.url}/health").text == "well"
    assert (app.name, app.backend, app.state()) == ("app", "process", "running")


def test_a_factory_is_called(start_application: StartApplication) -> None:
    app = start_application(HEALTHY + "\n    def make():\n        return app\n", asgi="sample:make", factory=True)

    app.wait_ready(LIMIT_S)


def test_the_import_path_needs_no_current_folder(
    start_application: StartApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")

    start_application().wait_ready(LIMIT_S)


def test_several_workers_are_never_started(
    start_application: StartApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    app = start_application()

    app.wait_ready(LIMIT_S)

    assert len(app.pids()) == 1


def test_a_failing_import_is_told_at_once_with_its_traceback(start_application: StartApplication) -> None:
    message = failure(start_application("raise RuntimeError('no licence key')"))

    assert message.startswith("app is not ready: exited with code 1")
    assert "RuntimeError: no licence key" in message
    assert "sample.py" in message


def test_a_failing_lifespan_is_told_at_once_with_its_traceback(start_application: StartApplication) -> None:
    source = """
        from starlette.applications import Starlette

        async def lifespan(app):
            raise RuntimeError("the pool can't be opened")
            yield

        app = Starlette(lifespan=lifespan)
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "ignore")
        message = failure(start_application(source))

    assert message.startswith("app is not ready: exited with code 3")
    assert "RuntimeError: the pool can't be opened" in message
    assert "its lifespan failed" in message


@pytest.mark.parametrize("asgi", ["smaple:app", "sample:apq"])
def test_a_wrong_name_of_the_application_is_told(start_application: StartApplication, asgi: str) -> None:
    message = failure(start_application(asgi=asgi))

    assert "Error loading ASGI app" in message
    assert f"check `asgi` and `directory` of [app] in settings.toml: asgi is '{asgi}'" in message


def test_a_missing_uvicorn_is_told(
    start_application: StartApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare/bin/python"))

    assert "add uvicorn to the dependency group" in failure(start_application())


def test_a_missing_health_route_is_final_and_named(start_application: StartApplication) -> None:
    message = failure(start_application(health_path="/healthz"))

    assert "the error is final" in message
    assert "BadStatus: HTTP 404" in message
    assert "there is no route /healthz: set health_path of [app]" in message


def test_an_application_that_stays_unhealthy_is_given_up_at_the_limit(start_application: StartApplication) -> None:
    source = HEALTHY.replace('"well"', '"the cache is away", status_code=503') + "\n    print('warming up')\n"
    app = start_application(source)
    until(lambda: answers(f"{app.address.url}/health"))

    message = failure(app, limit_s=0.3)

    assert "the time is up" in message
    assert "HTTP 503: the cache is away" in message
    assert "warming up" in message
    assert "state       running" in message


def test_a_fixed_port_that_is_taken_is_named_with_its_holder(start_application: StartApplication) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotReady) as caught:
            start_application(port=port)

    assert f"port {port} is taken by {psutil.Process().name()} (process {os.getpid()})" in str(caught.value)
    assert "set port = 0" in str(caught.value)


def test_a_fixed_port_is_used(start_application: StartApplication) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app = start_application(port=port)

    app.wait_ready(LIMIT_S)

    assert app.address.port == port


class Stranger(http.server.BaseHTTPRequestHandler):
    """Answers every GET as a healthy application would."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port of another server on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_lost_race_for_the_port_is_run_again_on_another(
    start_application: StartApplication, stranger: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = application._free_port
    ports = iter([stranger])
    monkeypatch.setattr(application, "_free_port", lambda: next(ports, None) or choose())
    app = start_application()

    app.wait_ready(LIMIT_S)

    assert app.address.port != stranger
    assert httpx.get(f"{app.address.url}/health").text == "well"


# ---- faults, and the end


def test_a_paused_application_hangs_and_goes_on_when_resumed(start_application: StartApplication) -> None:
    app = start_application()
    app.wait_ready(LIMIT_S)

    app.pause()

    assert app.state() == "stopped by a signal (paused)"
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{app.address.url}/health", timeout=0.2)

    app.resume()

    assert httpx.get(f"{app.address.url}/health", timeout=LIMIT_S).text == "well"


def test_a_killed_application_comes_back_at_its_old_address(start_application: StartApplication) -> None:
    app = start_application()
    app.wait_ready(LIMIT_S)
    address = app.address

    app.kill()

    assert app.state() == "killed by SIGKILL"
    assert app.pids() == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address.url}/health")

    app.restart()
    app.wait_ready(LIMIT_S)

    assert app.address == address
    assert httpx.get(f"{address.url}/health").text == "well"


def test_a_port_taken_while_the_application_was_down_is_named(start_application: StartApplication) -> None:
    app = start_application()
    app.wait_ready(LIMIT_S)
    app.kill()

    with (
        socket.create_server(("127.0.0.1", app.address.port)),
        pytest.raises(NotReady, match=f"port {app.address.port} is taken by"),
    ):
        app.restart()


FAMILY = """
    import os, signal, subprocess, sys, time

    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    children = [
        subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE),
        subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True),
    ]
    for child in children:
        child.stdout.readline()
    # Its parent, a shell, goes at once: an orphan in our process group.
    orphan = subprocess.run("sleep 600 >/dev/null & echo $!", shell=True, stdout=subprocess.PIPE).stdout
    print("family", *(child.pid for child in children), int(orphan), flush=True)
    time.sleep(600)
"""


def family(process: Process) -> list[int]:
    line = next(line for line in process.log_tail().splitlines() if line.startswith("family"))
    return [process.pids()[0], *map(int, line.split()[1:])]


@pytest.fixture
def quick_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of processes that ignore SIGTERM needn't wait for long."""
    monkeypatch.setattr(application, "TERM_LIMIT_S", 0.3)


@pytest.mark.usefixtures("quick_stop")
@pytest.mark.parametrize("paused", [False, True])
def test_stop_leaves_no_descendant(start_process: StartProcess, paused: bool) -> None:
    process = start_process(FAMILY, "family")
    process.wait_ready(LIMIT_S)
    members = family(process)
    assert set(members) <= set(process.pids())
    if paused:
        process.pause()
        assert {psutil.Process(pid).status() for pid in members} == {psutil.STATUS_STOPPED}

    process.stop()
    process.stop()

    assert not any(map(alive, members))
    assert process.pids() == []


def test_kill_ends_the_whole_tree(start_process: StartProcess) -> None:
    process = start_process(FAMILY, "family")
    process.wait_ready(LIMIT_S)
    members = family(process)

    process.kill()

    assert not any(map(alive, members))


@pytest.mark.usefixtures("quick_stop")
def test_what_a_crashed_process_leaves_of_its_group_is_stopped(start_process: StartProcess) -> None:
    process = start_process(FAMILY, "family")
    process.wait_ready(LIMIT_S)
    leader, child, elsewhere, orphan = family(process)
    psutil.Process(elsewhere).kill()
    psutil.Process(leader).kill()
    until(lambda: not process.running())

    process.stop()

    assert not alive(child)
    assert not alive(orphan)


def test_stop_lets_a_process_clean_up(start_process: StartProcess, tmp_path: Path) -> None:
    source = """
        import pathlib, signal, sys, time

        def end(*_):
            pathlib.Path("goodbye").touch()
            sys.exit()

        signal.signal(signal.SIGTERM, end)
        print("ready")
        time.sleep(600)
    """
    process = start_process(source, "ready")
    process.wait_ready(LIMIT_S)

    process.stop()

    assert (tmp_path / "goodbye").exists()
    assert process.state() == "exited with code 0"


# ---- other processes


def test_a_process_is_ready_when_its_output_says_so(start_process: StartProcess) -> None:
    process = start_process("import time; print('connecting'); print('worker ready'); time.sleep(600)", "worker ready")

    process.wait_ready(LIMIT_S)

    assert process.log_tail() == "connecting\nworker ready"


def test_a_process_without_such_a_line_is_ready_once_started(start_process: StartProcess) -> None:
    start_process("import time; time.sleep(600)").wait_ready(LIMIT_S)


def test_a_process_that_ends_before_it_is_ready_is_told_at_once(start_process: StartProcess) -> None:
    message = failure(start_process("import sys; sys.exit('no such queue')", "ready"))

    assert message.startswith("worker is not ready: exited with code 1")
    assert "| no such queue" in message
    assert "run it by hand" in message


def test_a_process_that_never_says_it_is_ready_is_given_up(start_process: StartProcess) -> None:
    message = failure(start_process("import time; print('connecting'); time.sleep(600)", "worker ready"), limit_s=0.3)

    assert "the time is up" in message
    assert "no line of its output contains 'worker ready'" in message


def test_the_advice_at_the_limit_names_the_setting(
    start_application: StartApplication, start_process: StartProcess
) -> None:
    """Each has a limit of its own, which the general one doesn't change."""
    worker = start_process("import time; time.sleep(100)", ready_output="ready")
    app = start_application(HEALTHY.replace("async def health(request):", "async def health(request):\n        1 / 0"))

    assert "raise ready_limit_s of [processes.worker] in settings.toml" in failure(worker, 0.0)
    assert "raise ready_limit_s of [app] in settings.toml" in failure(app, 0.0)


def test_a_command_that_is_not_there_is_named(start_process: StartProcess) -> None:
    with pytest.raises(NotReady, match="no-such-command can't be started"):
        start_process(command=("no-such-command",))


def test_a_folder_that_is_not_there_is_named(start_process: StartProcess) -> None:
    with pytest.raises(NotReady, match="there is no folder 'scr'"):
        start_process(directory="scr")


def test_the_environment_is_laid_over_ours(start_process: StartProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://staging.example/")
    monkeypatch.setenv("PGHOST", "staging.example")
    monkeypatch.setenv("KEPT", "ours")
    source = """
        import os, sys
        print(sys.executable, *(os.environ.get(name) for name in ("DATABASE_URL", "PGHOST", "KEPT", "PLUMBLINE_RUN")))
    """

    process = start_process(source, environment={"DATABASE_URL": "postgresql://ours/", "PGHOST": None})
    until(lambda: not process.running())

    assert process.log_tail() == f"{sys.executable} postgresql://ours/ None ours {process.run.id}"


def test_passwords_of_the_services_are_blotted_out_of_the_output(start_process: StartProcess) -> None:
    address = Address("postgresql", "127.0.0.1", 5432, "perf", "top/secret")
    source = "import os, sys; sys.exit('cannot connect to ' + os.environ['DSN'] + ' with top/secret')"

    message = failure(start_process(source, "ready", environment={"DSN": address.url}, secrets=(address,)))

    assert "cannot connect to postgresql://perf:***@127.0.0.1:5432 with ***" in message
    assert "secret" not in message


def test_a_talkative_process_does_not_fill_the_disk(
    start_process: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "LOG_LIMIT_BYTES", 100_000)
    process = start_process("for _ in range(20_000): print('x' * 99)\nprint('end')\nimport time; time.sleep(600)")
    until(lambda: process.running() and process.log_tail().endswith("end"))

    process.running()

    assert process._log.stat().st_size <= 100_000


# ---- prepare


def test_prepare_runs_to_its_end(tmp_path: Path, run: Run) -> None:
    run_prepare(["python", "-c", "open('migrated', 'w')"], tmp_path, {}, LIMIT_S, run)

    assert (tmp_path / "migrated").exists()


def test_a_failing_prepare_is_told_with_its_output(tmp_path: Path, run: Run) -> None:
    with pytest.raises(NotReady) as caught:
        run_prepare(["python", "-c", "import sys; print('relation missing'); sys.exit(7)"], tmp_path, {}, LIMIT_S, run)

    assert "prepare is not ready: exited with code 7" in str(caught.value)
    assert "| relation missing" in str(caught.value)


def test_a_prepare_that_hangs_is_ended_at_the_limit(tmp_path: Path, run: Run) -> None:
    source = "import time; print('locked', flush=True); time.sleep(601)"

    with pytest.raises(NotReady, match=r"still running after 0\.5 s"):
        run_prepare(["python", "-c", source], tmp_path, {}, 0.5, run)

    assert not [child for child in psutil.Process().children(recursive=True) if source in child.cmdline()]


# ---- with real servers


SHOP = {
    "config.py": """
        from pydantic import BaseModel, PostgresDsn, RedisDsn
        from pydantic_settings import BaseSettings, SettingsConfigDict


        class Database(BaseModel):
            dsn: PostgresDsn
            pool_size: int = 5


        class Cache(BaseModel):
            url: RedisDsn


        class Settings(BaseSettings):
            model_config = SettingsConfigDict(env_prefix="APP_", env_nested_delimiter="__")

            db: Database
            cache: Cache


        settings = Settings()
    """,
    "main.py": """
        from contextlib import asynccontextmanager

        import asyncpg
        from fastapi import FastAPI, Request
        from redis.asyncio import Redis

        from shop.config import settings


        @asynccontextmanager
        async def lifespan(app: FastAPI):
            dsn = str(settings.db.dsn).replace("+asyncpg", "")
            async with (
                asyncpg.create_pool(dsn, min_size=1, max_size=settings.db.pool_size) as pool,
                Redis.from_url(str(settings.cache.url)) as redis,
            ):
                yield {"pool": pool, "redis": redis}


        app = FastAPI(lifespan=lifespan)


        @app.get("/health")
        async def health(request: Request):
            await request.state.redis.ping()
            database = await request.state.pool.fetchval("SELECT current_database()")
            return {"database": database, "pool_size": settings.db.pool_size}
    """,
}


@pytest.mark.parametrize("directory", ["src", "."])
def test_a_fastapi_application_is_served_as_it_is(tmp_path: Path, directory: str) -> None:
    """Its settings are pydantic's, nested, and read at import; it knows nothing of who starts it."""
    package = tmp_path / directory / "shop"
    package.mkdir(parents=True)
    for name, source in SHOP.items():
        (package / name).write_text(textwrap.dedent(source), encoding="utf-8")
    dsn = "{postgres.user}:{postgres.password}@{postgres.host}:{postgres.port}/{postgres.database}"
    settings = Settings(
        services="embedded",
        env={"APP_DB__DSN": f"postgresql+asyncpg://{dsn}", "APP_CACHE__URL": "{redis.url}"},
        app=AppSettings("shop.main:app", directory=directory, env={"APP_DB__POOL_SIZE": "3"}),
    )
    services = Services(settings, tmp_path)

    try:
        start(services)

        assert services.postgres is not None
        assert services.app is not None
        health = httpx.get(f"{services.app.address.url}/health").json()
        assert health == {"database": services.postgres.address.database, "pool_size": 3}
    finally:
        services.stop()


def start(services: Services) -> None:
    services.begin()
    services.wait_ready()
    services.start_application()


@dataclass
class Sample:
    """The sample service with its worker, started the way a user's settings would."""

    api: httpx.Client
    app: Service
    worker: Service
    redis: Service
    postgres: Service
    prefix: str

    def query(self, sql: str) -> list[tuple[object, ...]]:
        async def work() -> list[tuple[object, ...]]:
            connection = await asyncpg.connect(self.postgres.address.url, timeout=LIMIT_S)
            try:
                return [tuple(row) for row in await connection.fetch(sql)]
            finally:
                await connection.close()

        return run_alone(work, LIMIT_S)

    def send_event(self, name: str) -> str:
        answer = self.api.post("/events", json={"name": name})
        assert answer.status_code == 202
        event_id: str = answer.json()["id"]
        return event_id

    def stored_events(self) -> dict[object, object]:
        return dict(self.query("SELECT id, name FROM events"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sample() -> Iterator[Sample]:
    settings = Settings(
        services="embedded",
        prepare=["python", "-m", "tests.sample_service.prepare"],
        env={
            "SAMPLE_DATABASE_URL": "{postgres.url}",
            "SAMPLE_REDIS_URL": "{redis.url}",
            "SAMPLE_KEY_PREFIX": "{redis.prefix}",
            "SAMPLE_CONNECT_TIMEOUT_S": "0.5",
            "SAMPLE_COMMAND_TIMEOUT_S": "0.5",
        },
        app=AppSettings("tests.sample_service.app:app"),
        processes={
            "worker": ProcessSettings(["python", "-m", "tests.sample_service.worker"], ready_output="worker ready")
        },
    )
    services = Services(settings, ROOT)
    try:
        start(services)
        app, redis, postgres = services.app, services.redis, services.postgres
        assert app is not None
        assert redis is not None
        assert postgres is not None
        with httpx.Client(base_url=app.address.url, timeout=LIMIT_S) as api:
            yield Sample(api, app, services.processes["worker"], redis, postgres, services.key_prefix)
    finally:
        services.stop()


@pytest.fixture
def healthy_sample(sample: Sample) -> Sample:
    until(lambda: sample.api.get("/health").status_code == 200)
    return sample


def test_the_sample_service_is_healthy(sample: Sample) -> None:
    health = sample.api.get("/health")

    assert (health.status_code, health.json()) == (200, {"postgres": "ok", "redis": "ok"})


def test_the_sample_service_creates_reads_and_lists_items(sample: Sample) -> None:
    created = sample.api.post("/items", json={"name": "lamp", "price_cents": 4900})

    item = created.json()
    assert created.status_code == 201
    assert item == {"id": item["id"], "name": "lamp", "price_cents": 4900}
    assert sample.api.get(f"/items/{item['id']}").json() == item
    assert [one["id"] for one in sample.api.get("/items?limit=3").json()["items"]] == [1, 2, 3]


def test_the_sample_service_reads_through_its_cache(sample: Sample) -> None:
    for _ in range(2):
        assert sample.api.get("/items/7/cached").json() == {"id": 7, "name": "item 7", "price_cents": 107}

    with redis_client.Redis.from_url(sample.redis.address.url) as client:
        assert 0 < client.ttl(f"{sample.prefix}item:7") <= 60
        assert all(key.decode().startswith(sample.prefix) for key in client.scan_iter())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/items/999999999", "", 404),
        ("GET", "/items/999999999/cached", "", 404),
        ("GET", "/items/99999999999999999999", "", 422),
        ("GET", "/items?limit=0", "", 422),
        ("GET", "/items?limit=many", "", 422),
        ("POST", "/items", "{", 400),
        ("POST", "/items", "[]", 422),
        ("POST", "/items", '{"name": "lamp"}', 422),
        ("POST", "/items", '{"name": "lamp", "price_cents": -1}', 422),
        ("POST", "/events", '{"name": ""}', 422),
    ],
)
def test_the_sample_service_refuses_bad_requests(
    sample: Sample, method: str, path: str, body: str, status: int
) -> None:
    answer = sample.api.request(method, path, content=body)

    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize("fault", ["pause", "kill"])
@pytest.mark.parametrize(("store", "path"), [("postgres", "/items/1"), ("redis", "/items/1/cached")])
def test_the_sample_service_says_503_while_a_store_is_away_and_recovers(
    healthy_sample: Sample, store: str, path: str, fault: str
) -> None:
    sample = healthy_sample
    server = sample.postgres if store == "postgres" else sample.redis
    getattr(server, fault)()
    try:
        answer = sample.api.get(path)
        health = sample.api.get("/health")
    finally:
        server.resume() if fault == "pause" else server.restart()

    assert answer.status_code == 503
    assert "a store is away" in answer.json()["detail"]
    assert health.status_code == 503
    assert [name for name, state in health.json().items() if state != "ok"] == [store]
    until(lambda: sample.api.get(path).status_code == 200)
    assert sample.app.state() == "running"


def test_the_worker_stores_events(healthy_sample: Sample) -> None:
    event_id = healthy_sample.send_event("ordered")

    until(lambda: healthy_sample.stored_events().get(event_id) == "ordered")


def test_a_killed_worker_loses_no_event(healthy_sample: Sample) -> None:
    """Whatever was answered with 202 is stored: sent before, between and after the kill."""
    sample = healthy_sample
    sent = {}

    for number in range(60):
        name = f"event {number}"
        sent[sample.send_event(name)] = name
        if number == 20:
            sample.worker.kill()
        if number == 40:
            sample.worker.restart()
            sample.worker.wait_ready(LIMIT_S)

    until(lambda: sent.items() <= sample.stored_events().items())


def test_events_that_a_killed_worker_had_read_are_stored(healthy_sample: Sample) -> None:
    """PostgreSQL hangs, then both it and the worker are killed: the event was read, and can't have been stored."""
    sample = healthy_sample
    sample.postgres.pause()
    event_id = sample.send_event("in between")
    with redis_client.Redis.from_url(sample.redis.address.url) as client:
        until(lambda: client.xpending(f"{sample.prefix}events", "store")["pending"] > 0)
    sample.worker.kill()
    sample.postgres.kill()
    sample.postgres.restart()
    sample.postgres.wait_ready(LIMIT_S)
    assert event_id not in sample.stored_events()

    sample.worker.restart()

    until(lambda: sample.stored_events().get(event_id) == "in between")


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_the_worker_goes_on_when_a_store_comes_back(healthy_sample: Sample, store: str) -> None:
    sample = healthy_sample
    server = sample.postgres if store == "postgres" else sample.redis
    server.kill()
    server.restart()
    until(lambda: sample.api.get("/health").status_code == 200)

    event_id = sample.send_event("afterwards")

    until(lambda: event_id in sample.stored_events())
    assert sample.worker.state() == "running"


def test_the_worker_ends_cleanly(healthy_sample: Sample) -> None:
    worker = healthy_sample.worker

    worker.stop()

    assert worker.state() == "exited with code 0"
    worker.start()
    worker.wait_ready(LIMIT_S)
