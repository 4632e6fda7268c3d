"""Applications that another server than uvicorn serves, in paired comparisons."""

import re
import shutil
import textwrap
from typing import Any

import pytest

from tests.support.documented import DJANGO, FLASK
from tests.support.project import SETTINGS, Project

LIMITS = "tolerance = 0.2\nminimum_effect = 0.9\npairs_limit_s = 20\ntails = []\n"
SUITE = """
    import httpx
    import pytest


    @pytest.mark.parametrize("path", {paths})
    def test_get(api_url, measure, path):
        with httpx.Client(base_url=api_url, trust_env=False, timeout=20) as client:
            for timer in measure():
                with timer:
                    response = client.get(path)
                assert response.status_code == 200
"""
PERL = """
    use IO::Socket::INET;
    my $steps = 1_000;
    my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ENV{PORT}, Listen => 128, ReuseAddr => 1)
        or die $@;
    $SIG{CHLD} = "IGNORE";
    while (my $client = $server->accept) {
        next if fork;
        while (defined(my $line = <$client>)) {
            next if $line ne "\\r\\n";
            my $sum = 0;
            $sum += $_ % 7 for 1 .. $steps;
            print $client "HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nwell";
        }
        exit;
    }
"""
GO = """
    package main

    import (
        "bufio"
        "fmt"
        "net"
        "net/http"
        "os"
        "strings"
    )

    const steps, reads = 1_000, 1

    func redis(words ...string) string {
        connection, err := net.Dial("tcp", os.Getenv("REDIS"))
        if err != nil {
            panic(err)
        }
        defer connection.Close()
        fmt.Fprintf(connection, "AUTH %s\\r\\n%s\\r\\n", os.Getenv("REDIS_PASSWORD"), strings.Join(words, " "))
        answers := bufio.NewReader(connection)
        answers.ReadString('\\n')
        answer, _ := answers.ReadString('\\n')
        return answer
    }

    func main() {
        if os.Args[1] == "seed" {
            fmt.Print(redis("SET", "item", "lamp"))
            return
        }
        http.HandleFunc("/health", func(out http.ResponseWriter, _ *http.Request) {
            sum := 0
            for number := 0; number < steps*1_000; number++ {
                sum += number % 7
            }
            fmt.Fprint(out, sum)
        })
        http.HandleFunc("/item", func(out http.ResponseWriter, _ *http.Request) {
            for read := 0; read < reads; read++ {
                fmt.Fprint(out, redis("GET", "item"))
            }
        })
        panic(http.ListenAndServe(os.Args[1], nil))
    }
"""
GO_SETTINGS = """
prepare = [["go", "build", "-o", "server", "server.go"], ["./server", "seed"]]
redis.backend = "embedded"

[app]
command = ["./server", "{host}:{port}"]

[env]
CGO_ENABLED = "0"
REDIS = "{redis.host}:{redis.port}"
REDIS_PASSWORD = "{redis.password}"
"""
UNCOUNTED = "can't be counted in app: no Python runs there"


@pytest.fixture
def shop(project: Project) -> Project:
    """A repository without benchmarks."""
    project.git("init", "--quiet", "--initial-branch=main")
    return project


def test_a_server_in_another_language_is_compared(shop: Project) -> None:
    """Each side runs its own copy. Any change affects the benchmarks that use it, and the report says so."""
    app = '[app]\ncommand = ["perl", "server.pl"]\nenv = { PORT = "{port}" }\n'
    shop.write("settings.toml", SETTINGS + LIMITS + app)
    shop.write("test_suite.py", textwrap.dedent(SUITE).format(paths=["/health"]))
    (shop.root / "server.pl").write_text(textwrap.dedent(PERL))
    shop.commit("Start")
    (shop.root / "server.pl").write_text(textwrap.dedent(PERL).replace("1_000", "100_000"))
    done = shop.own_python("-m", "plumbline", "compare", "HEAD")

    assert done.code == 1, done.output
    assert shop.verdicts() == {"test_suite.py::test_get[/health]": "regression"}
    output = " ".join(done.output.split())
    assert "benchmarks that use app (runs perl) count as affected by any change" in output
    assert f"blocking calls {UNCOUNTED}" in output


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go"), reason="there is no program go on this machine")
def test_a_compiled_server_is_built_counted_and_compared(shop: Project) -> None:
    """`prepare` builds each side's own. Its time and commands are compared."""
    first, *rest = GO_SETTINGS.partition("\n[")
    settings = first + SETTINGS.replace("memory = false", "").replace("ready_limit_s = 20", "ready_limit_s = 200")
    shop.write("settings.toml", settings + LIMITS + "".join(rest))
    shop.write("test_suite.py", textwrap.dedent(SUITE).format(paths=["/health", "/item"]))
    (shop.root / "server.go").write_text(textwrap.dedent(GO))
    (shop.root / ".gitignore").write_text("/server\nperf-results/\n")
    shop.commit("Start")
    done = shop.own_python("-m", "plumbline", "ci")
    assert done.code == 0, done.output
    assert f"blocking calls and allocations {UNCOUNTED}" in " ".join(done.output.split())

    (shop.root / "server.go").write_text(
        textwrap.dedent(GO).replace("steps, reads = 1_000, 1", "steps, reads = 9_000, 2")
    )
    done = shop.own_python("-m", "plumbline", "compare", "HEAD")
    assert done.code == 1, done.output
    health, item = shop.results()["benchmarks"]
    assert (health["verdict"], item["verdict"]) == ("regression", "regression")
    assert health["reasons"][0]["kind"] != item["reasons"][0]["kind"]
    assert health["counts"]["app.messages"] == item["counts"]["app.messages"] == 1
    grown = {one["name"]: (one["old"], one["new"]) for one in item["count_changes"]}
    assert grown["redis.command GET"] == grown["redis.connections"] == (1, 2)
    assert "redis.command GET" not in health["counts"]


FASTAPI = """
    from fastapi import FastAPI

    app = FastAPI()


    @app.get("/health")
    async def health():
        return sum(number % 7 for number in range(1000))
"""
GRANIAN = ["granian", "--interface", "asgi", "shop:app", "--host", "{host}", "--port", "{port}"]
HYPERCORN = ["hypercorn", "shop:app", "--bind", "{host}:{port}"]


@pytest.mark.parametrize(
    "command", [pytest.param(GRANIAN, id="granian"), pytest.param(HYPERCORN, id="hypercorn", marks=pytest.mark.slow)]
)
def test_other_asgi_servers_are_counted_and_traced(shop: Project, command: list[str]) -> None:
    """A request is one message. A new comment affects nothing."""
    shop.write("settings.toml", f"{SETTINGS}{LIMITS}[app]\ncommand = {command}\n")
    shop.write("test_suite.py", textwrap.dedent(SUITE).format(paths=["/health"]))
    (shop.root / "shop.py").write_text(textwrap.dedent(FASTAPI))
    shop.commit("Start")
    (shop.root / "shop.py").write_text(textwrap.dedent(FASTAPI) + "# Nothing else.\n")
    done = shop.own_python("-m", "plumbline", "compare", "HEAD")

    assert done.code == 0, done.output
    [health] = shop.results()["benchmarks"]
    assert (health["counts"]["app.messages"], health["reasons"][0]["kind"]) == (1, "unaffected")


ENV = """
[env]
DJANGO_SETTINGS_MODULE = "config.settings"
ALLOWED_HOSTS = "127.0.0.1"
DB_HOST = "{postgres.host}"
DB_PORT = "{postgres.port}"
DB_NAME = "{postgres.database}"
DB_USER = "{postgres.user}"
DB_PASSWORD = "{postgres.password}"
CACHE_URL = "{redis.url}"
SHOP_DATABASE_URL = "{postgres.url}"
SHOP_REDIS_URL = "{redis.url}"
"""
REPORTS = """
    STEPS = 3000


    def totals(steps):
        return sum(number * number % 7 for number in range(steps))


    def plain():
        return sorted(range(3000, 0, -1))[:3]
"""
DJANGO_URLS = """
    from django.http import JsonResponse
    from django.urls import path

    from orders import reports, views


    def report(request):
        return JsonResponse({"total": reports.totals(3000)})


    def plain(request):
        return JsonResponse({"rest": reports.plain()})


    urlpatterns = [
        path("healthz/", views.health),
        path("orders", views.order_list),
        path("report", report),
        path("plain", plain),
    ]
"""
PREPARE = """
    from django.core.management import BaseCommand, call_command


    class Command(BaseCommand):
        def handle(self, **options):
            call_command("migrate")
            call_command("seed")
"""
FLASK_VIEWS = """
    @app.get("/report")
    def report():
        return jsonify(reports.totals(3000))

    @app.get("/plain")
    def plain():
        return jsonify(reports.plain())

    @app.get("/healthz")
"""
FLASK_ORDERS = """
    NEWEST = "SELECT id FROM orders ORDER BY id DESC LIMIT 20"
    ITEMS = "SELECT order_id, name FROM items WHERE order_id = ANY(%s)"


    def newest(connection):
        ids = [row["id"] for row in connection.execute(NEWEST).fetchall()]
        return connection.execute(ITEMS, [ids]).fetchall()
"""
ONE_BY_ONE = "[connection.execute(ITEMS, [[one]]).fetchall() for one in ids]"
# By framework: its files, its settings, the file, text and new text of the N+1, and its statement.
FRAMEWORKS: dict[str, tuple[dict[str, str], str, tuple[str, str, str], str]] = {
    "django": (
        {
            **DJANGO,
            "orders/reports.py": REPORTS,
            "config/urls.py": DJANGO_URLS,
            "orders/management/commands/prepare.py": PREPARE,
        },
        """
        prepare = ["python", "manage.py", "prepare"]
        app.command = ["gunicorn", "config.wsgi", "--bind", "{host}:{port}"]
        app.health_path = "/healthz/"
        """,
        ("orders/views.py", '.prefetch_related("items")', ""),
        'FROM "orders_item" WHERE "orders_item"."order_id" = ?',
    ),
    "flask": (
        {
            **FLASK,
            "src/shop/reports.py": REPORTS,
            "src/shop/orders.py": FLASK_ORDERS,
            "src/shop/web.py": textwrap.dedent(FLASK["src/shop/web.py"])
            .replace("from redis import Redis\n", "from redis import Redis\n\nfrom shop import orders, reports\n")
            .replace("def orders():", "def order_list():")
            .replace("connection.execute(NEWEST).fetchall()", "orders.newest(connection)")
            .replace('    @app.get("/healthz")\n', FLASK_VIEWS.lstrip("\n")),
        },
        """
        prepare = ["flask", "--app", "shop.web", "prepare"]
        app.wsgi = "shop.web:create_app"
        app.factory = true
        app.directory = "src"
        app.health_path = "/healthz"
        """,
        ("src/shop/orders.py", "connection.execute(ITEMS, [ids]).fetchall()", ONE_BY_ONE),
        "FROM items WHERE order_id",
    ),
}
ORDERS, REPORT, PLAIN = (f"test_suite.py::test_get[/{name}]" for name in ("orders", "report", "plain"))


def write_application(shop: Project, framework: str, paths: list[str], *changes: tuple[str, str]) -> None:
    """Commit the application and its benchmarks, with these changes of the settings."""
    files, settings, _, _ = FRAMEWORKS[framework]
    for name, text in files.items():
        (shop.root / name).parent.mkdir(parents=True, exist_ok=True)
        (shop.root / name).write_text(textwrap.dedent(text))
    for old, new in changes:
        assert old in settings
        settings = settings.replace(old, new)
    servers = SETTINGS.replace('"off"', '"embedded"', 1).replace("test_limit_s = 10", "test_limit_s = 60")
    shop.write("settings.toml", textwrap.dedent(settings) + servers + LIMITS + ENV)
    shop.write("test_suite.py", textwrap.dedent(SUITE).format(paths=paths))
    shop.commit("Start")


def test_several_workers_are_counted_exactly_even_if_they_are_replaced(shop: Project) -> None:
    """Each of two workers ends after twelve requests."""
    workers = '"config.wsgi", "--workers", "2", "--max-requests", "12",'
    write_application(shop, "django", ["/orders"], ('"config.wsgi",', workers))

    done = shop.own_python("-m", "plumbline", "ci")

    assert done.code == 0, done.output
    [orders] = shop.results()["benchmarks"]
    statements = [count for name, count in orders["counts"].items() if name.startswith("postgres.statement SELECT")]
    rows = sum(count for name, count in orders["counts"].items() if name.startswith("postgres.rows_read "))
    assert (statements, rows, orders["counts"]["app.messages"]) == ([1, 1], 120, 1)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_slow_views_of_a_wsgi_application_are_found(shop: Project, framework: str) -> None:
    """An N+1 and a slow view are regressions, with their functions and lines.

    A benchmark passes if only comments and other functions have changed in the files that it executes.
    """
    files, _, (file, old, new), statement = FRAMEWORKS[framework]
    write_application(shop, framework, ["/orders", "/report", "/plain"])
    [reports] = [shop.root / name for name in files if name.endswith("reports.py")]
    [views] = [shop.root / name for name in files if name.endswith(("urls.py", "web.py"))]
    path = shop.root / file
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))
    reports.write_text(textwrap.dedent(REPORTS).replace("range(steps)", "range(steps * 10)"))
    views.write_text(views.read_text() + "\n# Nothing else.\n")

    done = shop.own_python("-m", "plumbline", "compare", "HEAD")

    assert done.code == 1, done.output
    found: dict[str, Any] = {one["key"]: one for one in shop.results()["benchmarks"]}
    assert {key: one["verdict"] for key, one in found.items()} == {
        ORDERS: "regression",
        REPORT: "regression",
        PLAIN: "pass",
    }
    assert found[PLAIN]["reasons"][0]["kind"] == "unaffected"
    executed = re.compile(f"postgres.statement .*{re.escape(statement)}")
    [counted] = [count for name, count in found[ORDERS]["counts"].items() if executed.match(name)]
    assert counted == 20
    [grown] = [one for one in found[ORDERS]["count_changes"] if executed.match(one["name"])]
    before_it = {"django": 0, "flask": 1}[framework]  # Django has read the items of all orders by another statement
    assert (grown["old"], grown["new"], grown["gated"]) == (
        before_it,
        20,
        True,
    )  # against the base: there is no baseline
    lines = path.read_text().splitlines()
    [sends] = [number for number, text in enumerate(lines, 1) if "order.items.all()" in text or ONE_BY_ONE in text]
    [site] = [one for one in grown["sites"] if one["count"] == 20]
    assert (site["file"], site["line"], site["function"], site["process"]) == (file, sends, "newest", "app")
    assert f"{file}:{sends} in newest" in " ".join(done.output.split())
    [line] = [number for number, text in enumerate(lines, 1) if "def newest(" in text]
    of_orders = [(one["name"], one["file"], one["line"]) for one in found[ORDERS]["functions"]]
    assert ("newest", file, line) in of_orders
    name = reports.relative_to(shop.root).as_posix()
    assert ("totals", name) in {(one["name"], one["file"]) for one in found[REPORT]["functions"]}
