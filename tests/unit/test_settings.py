import os
from pathlib import Path
from typing import Any

import pytest

from plumbline.settings import PROFILES, AppSettings, BackendChoice, Budget, Profile, Settings, SettingsError
from plumbline.settings_file import check_keys, load_settings, settings_hash

SHIPPED = Path(__file__).parents[1] / "performance" / "settings.toml"


def load(folder: Path, text: str, **environ: str) -> Settings:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environ)


def refusal(folder: Path, text: str, **environ: str) -> str:
    """Return the error message for these settings."""
    with pytest.raises(SettingsError) as error:
        load(folder, text, **environ)
    return str(error.value)


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    """Every key has a default."""
    settings = load(tmp_path, "")

    assert settings == Settings()
    assert (settings.backend, settings.pin, settings.app, settings.budgets) == ("auto", "auto", None, {})
    assert settings.profile("ci") == Profile(samples=100, warmup=20, timed_limit_s=0.15)
    assert settings.profile("full") == Profile(samples=1000, warmup=100, timed_limit_s=2.0)


def test_the_shipped_file_holds_the_defaults() -> None:
    """The file in the template is valid and shows the default thresholds and profiles, as its first line says."""
    settings = load_settings(SHIPPED, {})

    for name in (
        *("backend", "pin", "machine", "allow_external", "also_allowed", "results", "ready_limit_s", "test_limit_s"),
        "gate",
    ):
        assert getattr(settings, name) == getattr(Settings(), name)
    assert settings.profiles == PROFILES
    assert settings.app == AppSettings(asgi="tests.sample_service.app:app")


def test_values_of_the_file_are_taken(tmp_path: Path) -> None:
    """A value in the file replaces the default, in tables and in tables of tables."""
    settings = load(
        tmp_path,
        """
        backend = "docker"
        pin = 3
        [redis]
        backend = "embedded"
        config = { appendonly = "no", maxclients = 50 }
        [profiles.night]
        samples = 5000
        warmup = 0
        timed_limit_s = 30
        [budgets]
        "test_api.py::test_list" = { p95_ms = 20 }
        """,
    )

    assert settings.pin == 3
    assert settings.redis.config == {"appendonly": "no", "maxclients": 50}
    assert settings.profile("night") == Profile(samples=5000, warmup=0, timed_limit_s=30.0)
    assert settings.profile("ci") == PROFILES["ci"]
    assert settings.budgets == {"test_api.py::test_list": Budget(p95_ms=20.0)}


def test_a_server_s_own_backend_wins_over_the_general_one(tmp_path: Path) -> None:
    """`backend` of one server takes the place of the one at the top, which holds for the other."""
    settings = load(tmp_path, 'backend = "docker"\nredis.backend = "embedded"')

    assert settings.backend_of("redis") == "embedded"
    assert settings.backend_of("postgres") == "docker"


@pytest.mark.parametrize("text", ['services = "embedded"', '[services]\nbackend = "embedded"', "services = 'embedded'"])
def test_files_of_older_versions_are_read(tmp_path: Path, text: str) -> None:
    """`backend` was once called `services`, or stood in a table of that name. `pairs_limit_s` had another name, too."""
    gate = "\n[gate]\n"
    assert load(tmp_path, f"{text}{gate}duet_budget_s = 5") == load(
        tmp_path, f'backend = "embedded"{gate}pairs_limit_s = 5'
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('services = "off"\nbackend = "off"', "`services` and `backend` mean the same: keep `backend`"),
        (
            'backend = "off"\n[services]\nbackend = "off"',
            "`services.backend` and `backend` mean the same: keep `backend`",
        ),
        (
            'services = "off"\n[services.queue]\nimage = "rabbitmq:4-alpine"',
            'can\'t stand in one file: write `backend = "…"` instead of the first',
        ),
        (
            "[gate]\nduet_budget_s = 5\npairs_limit_s = 5",
            "`duet_budget_s` is the older name of `pairs_limit_s`: delete it",
        ),
    ],
    ids=["both", "both in a table", "beside a service", "both limits"],
)
def test_an_older_name_beside_the_new_one_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """The message says which of the two to keep."""
    assert refusal(tmp_path, text).endswith(told)


@pytest.mark.parametrize(
    ("text", "environ", "told"),
    [
        ("[services.queue]\nport = 1", {}, "services.queue: Object missing required field `image`"),
        (
            "[services.queue]\nimage = 'a'\nport = 1\nreadi = 'x'",
            {},
            "unknown key 'readi' in [services.queue]; did you mean 'ready'?",
        ),
        ("[services.My-Queue]\nimage = 'a'\nport = 1", {}, "use up to 40 lower-case letters, digits and _"),
        ("[services.redis]\nimage = 'a'\nport = 1", {}, "Plumbline itself uses this name: choose another one"),
        (
            "[services.worker]\nimage = 'a'\nport = 1\n[processes.worker]\ncommand = ['a']",
            {},
            "[processes.worker] uses this name: choose another one",
        ),
        ("[services.queue]\nimage = 'a'\nport = 1", {"PERF_SERVICE_QUEUE": "amqp://here"}, 'is not "host:port"'),
        (
            "[services.queue]\nimage = 'a'\nport = 1",
            {"PERF_SERVICE_QUUE": "here:1"},
            "PERF_SERVICE_QUUE is set, but settings.toml has no such service; did you mean PERF_SERVICE_QUEUE?",
        ),
    ],
)
def test_a_wrong_service_is_told(tmp_path: Path, text: str, environ: dict[str, str], told: str) -> None:
    """Each message names the table, the key or the variable."""
    assert told in refusal(tmp_path, text, **environ)


@pytest.mark.parametrize("table", ["processes", "services", "env", "app.env", "processes.a.env", "services.a.env"])
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ('"a b"', '"a b"'),
        ('"../a"', '"../a"'),
        ('"a=b"', '"a=b"'),
        ('""', '""'),
        ('"é"', '"é"'),
        (r'"a\nb"', r'"a\nb"'),
        (r'"a\u0000"', "has a character U+0000"),
        ("a" * 300, f'"{"a" * 40}…"'),
    ],
)
def test_a_name_that_no_file_or_variable_can_have_is_refused(tmp_path: Path, table: str, name: str, shown: str) -> None:
    """The message names the key on one short line."""
    value = {"processes": "{command = ['a']}", "services": "{image = 'a', port = 1}"}.get(table, "'x'")
    text = f"[{table}]\n{name} = {value}"
    if table.endswith(".a.env"):
        kind = table.split(".")[0]
        needs = "command = ['a']" if kind == "processes" else "image = 'a'\nport = 1"
        text = f"[{kind}.a]\n{needs}\n{text}"
    if table == "app.env":
        text = f"[app]\nasgi = 'a:b'\n{text}"
    message = refusal(tmp_path, text)
    assert shown in message
    assert message.startswith("settings.toml: ")
    assert len(message) < 250
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bakend = 1", "settings.toml: unknown key 'bakend'; did you mean 'backend'?"),
        ("[redis]\nbakend = 1", "settings.toml: unknown key 'bakend' in [redis]; did you mean 'backend'?"),
        ("[gate]\ntolerence = 1", "settings.toml: unknown key 'tolerence' in [gate]; did you mean 'tolerance'?"),
        (
            '[budgets."test_api.py::test_list"]\np95 = 1',
            """settings.toml: unknown key 'p95' in [budgets."test_api.py::test_list"]; did you mean 'p95_ms'?""",
        ),
        ("[postgres]\nbakend = 1", "in [postgres]; did you mean 'backend'?"),
        ("[profiles.ci]\nsample = 1", "in [profiles.ci]; did you mean 'samples'?"),
        ("[processes.a]\ncomand = 1", "in [processes.a]; did you mean 'command'?"),
        ("[benchmarks.'a.py::a']\ntolerence = 1", """in [benchmarks."a.py::a"]; did you mean 'tolerance'?"""),
        ("asgi = 1", "settings.toml: unknown key 'asgi'; did you mean 'app.asgi'?"),
        ("[app]\nasgi = ''\nminimum_effect = 1", "in [app]; did you mean 'gate.minimum_effect'?"),
        ("samples = 1", "settings.toml: unknown key 'samples'; did you mean 'profiles.NAME.samples'?"),
    ],
    ids=[
        *("top", "redis", "gate", "budget", "postgres", "profile", "process", "benchmark"),
        *("table left out", "wrong table", "table of tables"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_right_one(tmp_path: Path, text: str, told: str) -> None:
    """The message names the unknown key, its table and the nearest right key, with its table where that is another."""
    message = refusal(tmp_path, text)

    assert message.endswith(told)


def test_an_unknown_key_like_no_other_is_told_without_a_guess(tmp_path: Path) -> None:
    """No right key is suggested where none is near."""
    message = refusal(tmp_path, "xqzzy = 1")

    assert message == "settings.toml: unknown key 'xqzzy'"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("backend = 3", "backend: Expected `str`, got `int`"),
        ("pin = -1", "pin: Expected `int` >= 0"),
        ("prepare = 'make db'", "prepare: Expected `array`, got `str`"),
        ("prepare = [1]", "prepare: Expected `str | array`, got `int`"),
        ('prepare = ["sh", ["ls"]]', "prepare: write one command as a list of texts, or a list of such commands"),
        ("prepare = [[]]", "prepare: write one command as a list of texts, or a list of such commands"),
        ("gate.tolerance = 2.0", "gate.tolerance: Expected `float` < 1.0"),
        ("gate.baseline_processes = 2", "gate.baseline_processes: Expected `int` >= 3"),
        ("test_limit_s = 0", "test_limit_s: Expected `float` > 0.0"),
        ("app.factory = true", "app: it names no application: set asgi, wsgi or command"),
        ("[app]\nasgi = 'a:b'\nwsgi = 'a:b'", "app: asgi, wsgi each name an application: keep one of them"),
        (
            "[app]\ncommand = ['a', '{port}']\nfactory = true",
            "app: `factory` is for asgi and wsgi, and this is a command: remove it",
        ),
        (
            "[app]\ncommand = ['a', '{port}', '{redis.url}']",
            "app: command: there is no {redis.url}; there are {host} and {port}",
        ),
        (
            "[app]\ncommand = ['a', '{port}', '}']",
            "app: command: Single '}' encountered in format string; write {{ for a brace",
        ),
        (
            "[app]\ncommand = ['node', 'server.js']\nport = 3000",
            "app: the command does not say which port to listen on. Base and head run at the same time, each on a port"
            ' of its own: add {port} to the command, or a variable such as PORT = "{port}" to [app.env]',
        ),
        (
            "app = { asgi = 'a:b', python = 'c', environment = 'own' }",
            'app: `python` names an environment that exists, and `environment = "own"` makes one: keep one',
        ),
        ("[budgets]\n'a.py::b' = { p95_ms = 0 }", 'budgets."a.py::b".p95_ms: Expected `float` > 0.0'),
    ],
)
def test_a_wrong_value_is_told_with_its_path(tmp_path: Path, text: str, told: str) -> None:
    """The message names the key with its table, and what was expected."""
    message = refusal(tmp_path, text)

    assert message == f"settings.toml: {told}"


def test_the_one_wrong_table_among_several_is_named(tmp_path: Path) -> None:
    """A wrong value in one of several profiles is told with that profile's name, wherever it stands."""
    right = "samples = 10\nwarmup = 1\ntimed_limit_s = 1\n"
    wrong = "samples = 'many'\nwarmup = 1\ntimed_limit_s = 1\n"

    messages = [
        refusal(tmp_path, f"[profiles.ci]\n{first}[profiles.full]\n{second}[profiles.night]\n{third}")
        for first, second, third in [(wrong, right, right), (right, wrong, right), (right, right, wrong)]
    ]

    assert messages == [
        f"settings.toml: profiles.{name}.samples: Expected `int`, got `str`" for name in ("ci", "full", "night")
    ]


def test_a_wrong_value_two_tables_deep_is_named(tmp_path: Path) -> None:
    """Of two errors the first is told: a process's variable that isn't text, with the names of both."""
    message = refusal(
        tmp_path,
        """
        [processes.worker]
        command = ["worker"]
        env = { NAME = "a" }
        [processes.mailer]
        command = ["mailer"]
        env = { HOST = "b", PORT = 25 }
        [processes.cleaner]
        command = []
        """,
    )

    assert message == "settings.toml: processes.mailer.env.PORT: Expected `str`, got `int`"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "services = 'dokcer'",
            "backend: Invalid enum value 'dokcer' (allowed: auto, docker, embedded, external, off);"
            " did you mean 'docker'?",
        ),
        (
            "postgres.backend = 'dokcer'",
            "postgres.backend: Invalid enum value 'dokcer' (allowed: auto, docker, embedded, external, off);"
            " did you mean 'docker'?",
        ),
        ("pin = 'zzz'", "pin: Invalid enum value 'zzz' (allowed: a number, auto, off)"),
        ("gate.fail_on = ['slow']", "gate.fail_on: Invalid enum value 'slow' (allowed: inconclusive)"),
    ],
)
def test_a_value_that_is_not_allowed_is_told_with_those_that_are(tmp_path: Path, text: str, told: str) -> None:
    """The message lists the allowed values and suggests the nearest."""
    message = refusal(tmp_path, text)

    assert message == f"settings.toml: {told}"


def test_an_unknown_profile_is_told_with_the_known_ones() -> None:
    """Asking for a profile that isn't there lists those that are and suggests the nearest."""
    with pytest.raises(SettingsError, match=r"no profile 'fulll'.*; did you mean 'full'.*: ci, full"):
        Settings().profile("fulll")


@pytest.mark.parametrize("service", ["redis", "postgres"])
def test_perf_services_overrides_the_file_for_both_servers(tmp_path: Path, service: Any) -> None:
    """PERF_SERVICES wins over `backend` and over each server's own `backend`."""
    settings = load(tmp_path, 'backend = "docker"\nredis.backend = "docker"', PERF_SERVICES="embedded")

    assert settings.backend_of(service) == "embedded"


def test_a_server_that_is_off_stays_off(tmp_path: Path) -> None:
    """PERF_SERVICES says where servers come from, not which are needed; a URL asks for one all the same."""
    settings = load(tmp_path, 'redis.backend = "off"', PERF_SERVICES="embedded")
    assert (settings.backend_of("redis"), settings.backend_of("postgres")) == ("off", "embedded")
    settings = load(tmp_path, 'redis.backend = "off"', PERF_REDIS_URL="redis://:secret@127.0.0.1/0")
    assert settings.backend_of("redis") == "external"


def test_perf_services_with_a_wrong_value_is_told_as_the_variable_s(tmp_path: Path) -> None:
    """A wrong value out of the environment isn't blamed on the file."""
    message = refusal(tmp_path, "", PERF_SERVICES="dokcer")

    assert message.startswith("PERF_SERVICES: backend: Invalid enum value 'dokcer'")


@pytest.mark.parametrize(("value", "pin"), [("1", 1), ("off", "off"), ("auto", "auto")])
def test_perf_pin_overrides_the_file(tmp_path: Path, value: str, pin: int | str) -> None:
    """PERF_PIN takes a core's number or a word."""
    settings = load(tmp_path, "pin = 0", PERF_PIN=value)

    assert settings.pin == pin


@pytest.mark.parametrize("value", ["-1", "one", "²"])
def test_perf_pin_with_a_wrong_value_is_refused(tmp_path: Path, value: str) -> None:
    """PERF_PIN that is neither a core's number nor a known word is a wrong setting, never a crash."""
    message = refusal(tmp_path, "", PERF_PIN=value)

    assert message == f"PERF_PIN: pin: Invalid enum value '{value}' (allowed: a number, auto, off)"


def test_perf_machine_overrides_the_file(tmp_path: Path) -> None:
    """PERF_MACHINE names the machine, even where the name is a number."""
    settings = load(tmp_path, 'machine = "pool"', PERF_MACHINE="7")

    assert settings.machine == "7"


def test_empty_variables_override_nothing(tmp_path: Path) -> None:
    """A variable that is set to nothing counts as not set."""
    empty = dict.fromkeys(("PERF_SERVICES", "PERF_PIN", "PERF_MACHINE", "PERF_REDIS_URL", "PERF_DATABASE_URL"), "")

    settings = load(tmp_path, 'backend = "docker"\npin = 2\nmachine = "pool"', **empty)

    assert (settings.backend, settings.pin, settings.machine) == ("docker", 2, "pool")
    assert settings.external_urls == {}
    assert settings.backend_of("redis") == "docker"


@pytest.mark.parametrize(
    ("variable", "service", "backends"),
    [
        ("PERF_REDIS_URL", "redis", ("external", "embedded")),
        ("PERF_DATABASE_URL", "postgres", ("embedded", "external")),
        ("PERF_API_URL", "app", ("embedded", "embedded")),
    ],
)
def test_a_url_means_external_for_its_service_alone(
    tmp_path: Path, variable: str, service: str, backends: tuple[BackendChoice, BackendChoice]
) -> None:
    """A PERF_…_URL makes that one service external, over the file and over PERF_SERVICES."""
    settings = load(
        tmp_path, 'redis.backend = "docker"', PERF_SERVICES="embedded", **{variable: "redis://:secret@127.0.0.1/0"}
    )

    assert (settings.backend_of("redis"), settings.backend_of("postgres")) == backends
    assert settings.external_urls == {service: "redis://:secret@127.0.0.1/0"}


def test_plain_url_variables_are_ignored(tmp_path: Path) -> None:
    """DATABASE_URL and REDIS_URL, which often point at someone's staging, mean nothing."""
    settings = load(tmp_path, "", DATABASE_URL="postgresql://staging/app", REDIS_URL="redis://staging")

    assert settings == Settings()


def test_urls_in_the_file_are_refused(tmp_path: Path) -> None:
    """A URL may hold a password, so the file is refused and the variables are named, but not the URL."""
    message = refusal(tmp_path, 'external_urls = { redis = "redis://:secret@127.0.0.1" }')

    assert "PERF_REDIS_URL, PERF_DATABASE_URL, PERF_API_URL" in message
    assert "secret" not in message


def test_broken_toml_is_told_with_its_line(tmp_path: Path) -> None:
    """A file that isn't TOML is refused with the place of the error."""
    message = refusal(tmp_path, 'backend = "auto"\n[redis\n')

    assert message.startswith("settings.toml can't be read: ")
    assert "line 2" in message


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    """Reading it would wait for a writer."""
    os.mkfifo(tmp_path / "settings.toml")
    with pytest.raises(SettingsError, match="can't be read: it is a pipe or a device"):
        load_settings(tmp_path / "settings.toml", {})


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    """Bytes that aren't UTF-8 are a wrong setting, never a crash."""
    path = tmp_path / "settings.toml"
    path.write_bytes(b'machine = "\xff"')

    with pytest.raises(SettingsError, match=r"settings\.toml can't be read: .*utf-8"):
        load_settings(path, {})


def test_a_folder_in_the_file_s_place_is_refused(tmp_path: Path) -> None:
    """A path that can't be read is told with the reason."""
    with pytest.raises(SettingsError, match=r"can't be read: .*directory"):
        load_settings(tmp_path, {})


def test_a_missing_file_is_told_with_the_place_where_it_belongs(tmp_path: Path) -> None:
    """Without a file, the message says where it was looked for."""
    path = tmp_path / "settings.toml"

    with pytest.raises(SettingsError) as error:
        load_settings(path, {})

    assert str(error.value) == f"settings.toml is missing: expected at {path}"


# ---- keys of benchmarks


COLLECTED = ["test_a.py::test_get[100B]", "test_a.py::test_get[10kB]", "test_a.py::test_set"]


@pytest.mark.parametrize(
    "key", ["test_a.py::test_get", "test_a.py::test_get[10kB]", "test_a.py::test_set", "test_b.py::test_elsewhere"]
)
@pytest.mark.parametrize("table", ["budgets", "benchmarks"])
def test_a_key_of_a_benchmark_that_exists_or_was_not_looked_for_is_right(table: str, key: str, tmp_path: Path) -> None:
    """With its parameters, or for all of them; and nothing is known of a file that was not collected whole."""
    settings = load(tmp_path, f'[{table}."{key}"]')

    check_keys(settings, COLLECTED, lambda file: file == "test_a.py")


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("test_a.py::test_gett", "; did you mean 'test_a.py::test_get'?"),
        ("test_a.py::test_get[10kb]", "; did you mean 'test_a.py::test_get[10kB]'?"),
        ("test_A.py::test_set", "; did you mean 'test_a.py::test_set'?"),
        ("x", ""),
    ],
)
@pytest.mark.parametrize("table", ["budgets", "benchmarks"])
def test_a_key_of_no_benchmark_is_told_with_the_nearest_right_one(
    table: str, key: str, near: str, tmp_path: Path
) -> None:
    """It would be passed over in silence, and its budget with it."""
    settings = load(tmp_path, f'[{table}."{key}"]')

    with pytest.raises(SettingsError) as told:
        check_keys(settings, COLLECTED, lambda _file: True)

    assert str(told.value) == f"settings.toml: [{table}] has {key!r}, but there is no such benchmark{near}"


def test_settings_can_t_be_changed() -> None:
    """Settings are read once and then stay as they are."""
    with pytest.raises(AttributeError):
        Settings().backend = "off"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[redis.config]\nport = 6379", ["redis.config.port", "Plumbline sets it itself", "{redis.url}"]),
        ('[redis.config]\nBind = "0.0.0.0"', ["redis.config.Bind", "Plumbline sets it itself"]),
        (
            '[redis.config]\nrequirepass = "mine"',
            ["each run has a password of its own", "{redis.password}", "password = false"],
        ),
        ("[redis.config]\nrequirepass = false", ["each run has a password of its own"]),
        ('[postgres.config]\nlisten_addresses = "*"', ["postgres.config.listen_addresses", "{postgres.url}"]),
        ('postgres.user = "pg_app"', ["postgres: user = 'pg_app'", "PostgreSQL reserves"]),
        ('postgres.database = "a b"', ["postgres: database = "]),
        ('postgres.database = "template1"', ["postgres: database = "]),
        ('[postgres.config]\npassword = ""', ["each run has a password of its own", "{postgres.password}"]),
    ],
)
def test_options_that_would_be_overridden_are_refused(tmp_path: Path, text: str, told: list[str]) -> None:
    """A setting that is taken and ignored would mislead."""
    message = refusal(tmp_path, text)
    assert all(words in message for words in told)


def test_a_redis_without_a_password_can_be_asked_for(tmp_path: Path) -> None:
    """As for an application that takes only a host and a port."""
    assert load(tmp_path, '[redis.config]\nRequirePass = ""').redis.without_password
    assert load(tmp_path, "redis.password = false").redis.without_password
    assert not load(tmp_path, '[redis.config]\nsave = ""').redis.without_password


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("test_limit_s = inf", "settings.toml: test_limit_s = inf: expected a finite number"),
        ("ready_limit_s = nan", "ready_limit_s = nan"),
        ("[gate]\ntime_limit_s = -inf", "gate.time_limit_s = -inf"),
        ("[gate]\nminimum_effect = 0.02", "gate: minimum_effect = 0.02 must be larger than tolerance = 0.02"),
        ("[benchmarks.'a.py::a']\ntolerance = 0.06", "a.py::a: minimum_effect = 0.05 must be larger than"),
        ("[redis.config]\nmaxmemory = nan", "redis.config.maxmemory = nan"),
        ('[budgets]\n"a.py::b" = { p95_ms = +inf }', "budgets.a.py::b.p95_ms = inf"),
        ("test_limit_s = 1e300", "test_limit_s: Expected `float` <= 1000000000.0"),
        ('results = "a\\u0000b"', "settings.toml: results has a character U+0000"),
        ('prepare = ["python", "a\\u0000b"]', "prepare has a character U+0000"),
        ('[env]\n"A\\u0000" = "1"', "'A\\x00' has a character U+0000"),
    ],
)
def test_a_value_that_nothing_can_use_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """TOML has numbers that are no numbers, and characters that no command takes."""
    assert said in refusal(tmp_path, text)


def test_line_ends_do_not_change_the_hash_of_settings(tmp_path: Path) -> None:
    """A checkout on Windows has others. Anything else does change it."""
    hashes = []
    for text in (b"pin = 1\n", b"pin = 1\r\n", b"pin = 2\n"):
        (tmp_path / "settings.toml").write_bytes(text)
        hashes.append(settings_hash(tmp_path / "settings.toml"))
    assert hashes[0] == hashes[1] != hashes[2]
