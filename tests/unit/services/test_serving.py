"""The application under any HTTP server: gunicorn, granian, hypercorn, perl, node and go, as real processes."""

import os
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest

from plumbline.services import base
from plumbline.services.address import Address
from plumbline.services.application import Application
from plumbline.services.errors import NotReady
from plumbline.services.run import ServiceRun
from plumbline.services.services import Services
from plumbline.services.serving import says_port_taken
from plumbline.services.variables import render
from plumbline.settings import AppSettings, Settings
from tests.support.code_under_test import HEALTHY, LIMIT_S, failure, start, until

WSGI = """
    def app(environ, start_response):
        start_response("200 OK" if environ["PATH_INFO"] == "/health" else "404 Not Found", [("Content-Length", "4")])
        return [b"well"]

    def make():
        return app
"""
# A process for each connection. It says where it listens, with braces.
PERL = """
    use IO::Socket::INET;
    my $server = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 128) or die $@;
    $SIG{CHLD} = "IGNORE";
    while (my $client = $server->accept) {
        next if fork;
        while (defined(my $line = <$client>)) {
            print $client "HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nwell" if $line eq "\\r\\n";
        }
        exit;
    }
"""
NODE = """
    const http = require("http");
    http.createServer((request, response) => response.end("well")).listen(process.env.PORT, process.env.HOST);
"""
GO = """
    package main

    import (
        "fmt"
        "net/http"
        "os"
    )

    func main() {
        http.HandleFunc("/", func(out http.ResponseWriter, _ *http.Request) { fmt.Fprint(out, "well") })
        panic(http.ListenAndServe(os.Getenv("HOST")+":"+os.Getenv("PORT"), nil))
    }
"""
FILES = {"sample.py": HEALTHY, "sample_wsgi.py": WSGI, "server.pl": PERL, "server.js": NODE, "server.go": GO}
BIND = ["--bind", "{host}:{port}"]
COMMANDS = {
    "gunicorn": ["gunicorn", "sample_wsgi:app", "--workers", "2", *BIND],
    "python": ["python", "-m", "gunicorn", "sample_wsgi:app", "--env", 'ODD="{{}}"', *BIND],
    "granian": ["granian", "--interface", "asgi", "sample:app", "--host", "{host}", "--port", "{port}"],
    "hypercorn": ["hypercorn", "sample:app", *BIND],
    "perl": ["perl", "server.pl", "{host}", "{port}"],
    "node": ["node", "server.js"],
    "go": ["./server"],
}
Serve = Callable[..., Application]


@pytest.fixture
def serve(tmp_path: Path, run: ServiceRun) -> Iterator[Serve]:
    """Start an application of the test's folder."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(textwrap.dedent(text), encoding="utf-8")
    started: list[Application] = []

    def begin(**settings: object) -> Application:
        wanted = AppSettings(**settings)  # type: ignore[arg-type]
        app = Application("app", wanted, tmp_path, {}, run)
        app.env_at = lambda own: render(wanted.env, {}, "", own)
        started.append(app)
        app.start()
        return app

    yield begin
    for app in started:
        app.stop()


@pytest.mark.parametrize("server", COMMANDS)
def test_any_http_server_is_started_and_ended_with_all_its_processes(serve: Serve, tmp_path: Path, server: str) -> None:
    if server in {"node", "go"} and not shutil.which(server):
        pytest.skip(f"there is no program {server} on this machine")
    if server == "go":
        build = ["go", "build", "server.go"]
        subprocess.run(build, cwd=tmp_path, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    app = serve(command=COMMANDS[server], env={"HOST": "{host}", "PORT": "{port}"})

    app.wait_ready(LIMIT_S)

    with httpx.Client(base_url=app.address.url, trust_env=False) as client:
        assert [client.get("/health").text for _ in range(3)] == ["well"] * 3
        processes = [psutil.Process(pid) for pid in app.pids()]
        assert len(processes) > 1 or server in {"node", "go", "hypercorn"}
        app.stop()
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


@pytest.mark.parametrize("target", ["app", "make"])
def test_a_wsgi_application_is_served_by_one_process_with_threads(serve: Serve, target: str) -> None:
    """20 clients keep their connections, and gunicorn leaves no file behind."""
    app = serve(wsgi=f"sample_wsgi:{target}", factory=target == "make")

    app.wait_ready(LIMIT_S)

    clients = [httpx.Client(base_url=app.address.url, trust_env=False) for _ in range(20)]
    assert {client.get("/health").text for client in clients * 2} == {"well"}
    assert len(app.pids()) == 2  # a gunicorn that watches, and its worker
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"wsgi": "smaple:app"}, "check `wsgi` and `directory` of [app] in settings.toml: wsgi is 'smaple:app'"),
        ({"wsgi": "sample_wsgi:apq"}, "check `wsgi` and `directory` of [app] in settings.toml"),
        ({"command": ["gunicorn", "shop.wsgi", *BIND]}, "command is gunicorn shop.wsgi --bind {host}:{port}"),
        ({"command": ["gunicorn", "sample_wsgi:apq", *BIND]}, "check `command` and `directory` of [app]"),
        ({"command": ["python", "-m", "no_server", "{port}"]}, "check `command` and `directory` of [app]"),
        ({"wsgi": "needing:app"}, "add the package of the module not_installed to tests/performance/requirements.txt"),
    ],
)
def test_a_wrong_name_is_reported(serve: Serve, tmp_path: Path, settings: dict[str, object], told: str) -> None:
    (tmp_path / "needing.py").write_text("import not_installed")

    message = failure(serve(**settings))

    assert message.startswith("app is not ready: exited with code")
    assert told in message


def test_a_program_that_is_not_installed_is_named(serve: Serve) -> None:
    with pytest.raises(NotReady) as caught:
        serve(command=["gunicron", "{port}"])

    assert f"there is no program gunicron beside {sys.executable}, nor on PATH" in str(caught.value)


def test_a_server_in_the_background_is_reported_and_ended(tmp_path: Path) -> None:
    """It has left the process group, and its parent has ended."""
    (tmp_path / "sample_wsgi.py").write_text(textwrap.dedent(WSGI))
    command = ["gunicorn", "sample_wsgi:app", "--daemon", "--pid", str(tmp_path / "pid"), *BIND]
    services = Services(Settings(backend="off", app=AppSettings(command=command)), tmp_path)
    try:
        with pytest.raises(NotReady, match="run the server in the foreground"):
            start(services)
        until((tmp_path / "pid").exists)
        server = psutil.Process(int((tmp_path / "pid").read_text()))
    finally:
        services.stop()
    until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)


def test_a_server_on_another_port_is_reported(serve: Serve) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    app = serve(command=["gunicorn", "sample_wsgi:app", "--env", "X={port}", "--bind", f"127.0.0.1:{port}"])
    until(lambda: any(one.status == psutil.CONN_LISTEN for one in psutil.Process(app.pids()[0]).net_connections()))

    with pytest.raises(NotReady) as caught:
        app.wait_ready(0.1)

    assert f"it listens on port {port}, not on {app.address.port}: give `command` of [app] {{port}}" in str(
        caught.value
    )


def test_a_refused_host_is_explained(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "strict.py").write_text(textwrap.dedent(WSGI).replace("404 Not Found", "400 Bad Request"))

    message = failure(serve(wsgi="strict:app", health_path="/"))

    assert "GET / must answer 200, also for the host 127.0.0.1: for Django, add it to ALLOWED_HOSTS" in message


def test_a_missing_health_route_is_final(serve: Serve) -> None:
    assert "there is no route /healthz" in failure(serve(command=COMMANDS["gunicorn"], health_path="/healthz"))


@pytest.mark.parametrize("server", ["perl", "hypercorn", "granian"])
def test_after_a_lost_race_for_the_port_another_one_is_tried(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    reserve = base.reserve_port
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        found_free = [SimpleNamespace(getsockname=lambda: ("127.0.0.1", taken), close=lambda: None)]
        monkeypatch.setattr(base, "reserve_port", lambda wanted: found_free.pop() if found_free else reserve(wanted))
        app = serve(command=COMMANDS[server])

        app.wait_ready(LIMIT_S)

    assert app.address.port != taken
    assert httpx.get(f"{app.address.url}/health", trust_env=False).text == "well"


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("[ERROR] Connection in use: ('127.0.0.1', 8123)", True),
        ("Error: listen EADDRINUSE: address already in use 127.0.0.1:8123", True),
        ("metrics: Address already in use: 0.0.0.0:9123", False),
        ("Listening at: http://127.0.0.1:8123", False),
    ],
)
def test_the_output_says_whose_port_is_taken(line: str, taken: bool) -> None:
    assert says_port_taken(f"starting\n{line}\n", 8123) == taken


def test_the_variables_of_a_server_name_its_port_and_a_store(tmp_path: Path) -> None:
    """They are rendered at each start."""
    own = Address("http", "127.0.0.1", 8123)
    assert render({"URL": "http://{host}:{port}/{{id}}"}, {}, "", own) == {"URL": "http://127.0.0.1:8123/{id}"}

    (tmp_path / "server.pl").write_text(textwrap.dedent(PERL))
    command = ["sh", "-c", 'echo "listens at $PLACE" && exec perl server.pl "$HOST_NAME" "$PORT"', "{port}"]
    env = {"HOST_NAME": "{host}", "PORT": "{port}", "PLACE": "{host}:{port}"}
    services = Services(Settings(backend="off", app=AppSettings(command=command, env=env)), tmp_path)
    try:
        start(services)
        assert services.app is not None
        place = f"127.0.0.1:{services.app.address.port}"
        until(lambda: f"listens at {place}" in services.app.log_tail())  # type: ignore[union-attr]
        assert httpx.get(f"http://{place}/", trust_env=False).text == "well"
    finally:
        services.stop()
