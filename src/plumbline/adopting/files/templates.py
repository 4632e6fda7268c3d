"""The template for a variable: a part of a server's address, or a harmless value."""

import re
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from plumbline.adopting.files.reads import Read
from plumbline.services.variables import PLAIN_URL

Server = Literal["redis", "postgres", "rabbitmq"]
Part = Literal["url", "host", "port", "user", "password", "database", "endpoint"]

PARTS: dict[str, Part] = {
    **dict.fromkeys(("URL", "URI", "DSN"), "url"),
    **dict.fromkeys(("HOST", "SERVER", "HOSTNAME", "ADDR", "ADDRESS"), "host"),
    "PORT": "port",
    **dict.fromkeys(("USER", "USERNAME", "LOGIN", "ROLE"), "user"),
    **dict.fromkeys(("PASSWORD", "PASS", "PASSWD", "PWD", "PW"), "password"),
    **dict.fromkeys(("DB", "DATABASE", "DBNAME", "BASE", "NAME", "VHOST"), "database"),
}
POSTGRES = {"POSTGRES", "POSTGRESQL", "PG", "PSQL", "PGSQL", "ASYNCPG", "PSYCOPG", "TIMESCALE"}
REPLICAS = {"READ", "READONLY", "REPLICA", "SLAVE", "SECONDARY", "STANDBY"}
DATABASE = {"DB", "DATABASE", "SQL", "SQLALCHEMY", "RDS", "RDB"}
REDIS = {"REDIS", "VALKEY"}
RABBITMQ = {"RABBIT", "RABBITMQ", "RMQ", "AMQP", "CLOUDAMQP"}
AMQP = re.compile(r"((?:py)?amqp)s?://")
# Those of the image rabbitmq.
OF_RABBITMQ = {"user": "guest", "password": "guest", "database": "/"}
OTHERS = re.compile(  # servers and services that have such parts too
    r"MONGO|MYSQL|MARIA|RABBIT|AMQP|RMQ|KAFKA|ELASTIC|OPENSEARCH|SMTP|E?MAIL|S3|MINIO|AWS|SENTRY|CLICKHOUSE|CASSANDRA|NATS"
    r"|SQLITE|(?<![A-Z])(PY|UNIT)?TEST|LDAP|NEO4J|QDRANT|MEMCACHE|FTP|PGADMIN|ADMINER|FLOWER|INFLUX|ORACLE|MSSQL|DYNAMO|SUPABASE"
)
ENGINES = r"^(sqlite3?|postgres(ql)?|mysql|mariadb)$"
REFUSED = re.compile(
    r"change_?-?this|change_?-?me|your[-_ ].*|.*your_?\w+_?here.*|<.*>|x{3,}|todo|\.{3}|__.*__|replace.*|insert.*|"
    r".*\bchange_?-?this\b.*|.*\bchange_?-?me\b.*",
    re.IGNORECASE,
)
LOCAL_MODE = re.compile(r"local|dev|develop|development", re.IGNORECASE)
MODE_NAME = re.compile(r"(\w+_)?(ENVIRONMENT|ENV|STAGE|RUN_?MODE|APP_MODE|MODE)")
RESULT_BACKEND = re.compile(r"(\w+_)?RESULT_BACKEND(_URL)?")
RATE_LIMIT = re.compile(r"RATE_?LIMIT|THROTTL", re.IGNORECASE)
OF_A_LIMIT = re.compile(r"PERIOD|WINDOW|INTERVAL|DURATION|STORAGE|(SECONDS|MINUTES|HOURS|TIME(OUT)?|TTL|SIZE|DB|PORT)$")
MANY = "1000000"
TORTOISE = "tortoise"
OFF_IF_EMPTY = re.compile(r"SENTRY|(^|_)DSN$")
LONG = "plumbline-plumbline-plumbline-plumbline"
FERNET = "cGx1bWJsaW5lcGx1bWJsaW5lcGx1bWJsaW5lcGx1bWI="  # 32 bytes
MADE_UP = {"plumbline", LONG, FERNET}


class Place(NamedTuple):
    """The part of a server's address that a variable holds."""

    server: Server
    part: Part
    scheme: str = ""


def place_of(read: Read, values: list[str], servers: set[str]) -> Place | None:
    """Return the server and the part of its address that a variable holds, None if it holds none.

    `values` are its default and its examples, the most certain first. `servers` are those that the project uses.
    """
    if re.search(r"_(PREFIX|SCHEME|DRIVER|DIALECT)$|_(TLS|SSL)_", read.name):
        return None
    for value in values:
        if scheme := PLAIN_URL.match(value):
            server: Server = "redis" if scheme["redis"] else "postgres"
            return Place(server, "url", urlsplit(value).scheme) if server in servers else None
        if scheme := AMQP.match(value):
            return Place("rabbitmq", "url", scheme[1]) if "rabbitmq" in servers else None
    if any("://" in value and not value.startswith("sqlite") for value in values):
        return None  # the URL of something else
    name = _without_package(read)
    tokens = _tokens(name)
    server_found = _server(tokens, read, servers)
    part = PARTS.get(tokens[-1]) if tokens else None
    others = None if server_found == "rabbitmq" else OTHERS.search(name)
    if not server_found or others or (REPLICAS & set(tokens) and not read.required):
        return None
    if server_found != "postgres" and (part == "database" and tokens[-1] == "NAME"):
        return None
    if part == "database" and len(tokens) == 1 and not _is_dsn(read):
        is_name = values and not any(re.search(rf"/|{ENGINES}", value) for value in values)
        return Place(server_found, "database") if is_name else None
    if part in (None, "database") and _is_dsn(read):
        part = "url"
    if part == "database" and any(re.search(r"\.\w{2,7}$|^:memory:$", value) for value in values):
        return None
    if part == "port" and values[:1] in (["3306"], ["1433"], ["27017"]):  # MySQL, SQL Server, MongoDB
        return None
    if part == "host" and any(re.fullmatch(r"[\w.-]+:\d+", value) for value in values):
        return Place(server_found, "endpoint")
    return Place(server_found, part) if part else None


def template_of(place: Place, driver: str = "") -> str:
    """Return the template of a place.

    `driver`: that of SQLAlchemy, for URLs whose scheme nothing shows, or TORTOISE.
    """
    server = place.server
    if place.part == "endpoint":
        return f"{{{server}.host}}:{{{server}.port}}"
    if server == "rabbitmq" and place.part in OF_RABBITMQ:
        return OF_RABBITMQ[place.part]
    if place.part != "url":
        return f"{{{server}.{place.part}}}"
    if server == "rabbitmq":
        # Clients log in as guest by default.
        return (place.scheme or "amqp") + "://{rabbitmq.host}:{rabbitmq.port}/"
    is_named = driver not in ("", TORTOISE) and server == "postgres"
    scheme = place.scheme or (f"postgresql+{driver}" if is_named else "")
    if server == "postgres" and driver == TORTOISE and "+" not in scheme:
        scheme = "postgres"  # it refuses postgresql
    elif "+" not in scheme:
        return f"{{{server}.url}}"
    return scheme + "://{%s.user}:{%s.password}@{%s.host}:{%s.port}/{%s.database}".replace("%s", server)


def harmless(read: Read, example: str) -> str:
    """Return a value for a variable without a default: that of the example, or one that fits its name and type."""
    if example and not REFUSED.fullmatch(example) and "$" not in example and "{{" not in example:
        return _braced(example)
    name, kind = read.name, read.kind
    if read.is_json or re.search(r"\b(list|List|json|dict|Dict)\b", kind):
        if not read.is_json:
            return "localhost"
        return "{{}}" if re.match(r"dict|Dict", kind) else "[]"
    if read.choices:
        return next((one for one in read.choices if LOCAL_MODE.fullmatch(one)), read.choices[0])
    if re.search(r"\bbool\b", kind):
        return "false"
    if re.search(r"\b(int|PositiveInt|float|Decimal|timedelta)\b", kind) or name.endswith(
        ("_PORT", "_SECONDS", "_MINUTES")
    ):
        return "8000" if name.endswith("PORT") else "60"
    if "Email" in kind or re.search(r"E?MAIL$|E?MAIL_(FROM|ADDRESS)|SUPERUSER$", name):
        return "plumbline@example.com"
    if name.endswith("ADMIN_URL"):  # a path, in cookiecutter-django
        return "admin/"
    if re.search(r"FERNET|ENCRYPTION_KEY", name):
        return FERNET
    if read.kind in ("cache", "cache_url"):  # of django-environ
        return "locmemcache://"
    if read.kind in ("email", "email_url"):
        return "consolemail://"
    if OFF_IF_EMPTY.search(name):
        return ""
    if RESULT_BACKEND.fullmatch(name):
        return "rpc://"  # through the broker itself
    if re.search(r"(DB|DATABASE|REDIS|MONGO\w*|BROKER|AMQP|MYSQL)_(URL|URI|DSN)$", name):
        return ""  # of a server that the run does not have
    if re.search(r"Url|Uri", kind) or re.search(r"(^|_)(URL|URI|ENDPOINT|ORIGIN)$", name):
        return "http://localhost"
    if re.search(r"(^|_)(HOST|DOMAIN|SERVER|SERVER_NAME)$", name):
        return "localhost"
    if re.search(r"ALLOWED_HOSTS$", name):
        return "127.0.0.1,localhost"
    if "Path" in kind or re.search(r"(^|_)(DIR|PATH|FOLDER)$", name):
        return "/tmp"  # noqa: S108
    if re.search(r"ALGORITHM$", name):
        return "HS256"
    return LONG if re.search(r"SECRET|KEY|SALT|TOKEN", name) else "plumbline"


def value_for(name: str, servers: set[str]) -> str:
    """Return a template or a harmless value for a variable of which only the name is known."""
    read = Read(name, True, None, "", "")
    place = place_of(read, [], servers)
    return template_of(place) if place else harmless(read, "")


def raised_limit(read: Read, value: str) -> str:
    """Return a value with which a rate limit lets benchmarks pass, "" if the variable sets no rate limit."""
    if not RATE_LIMIT.search(read.name) or OF_A_LIMIT.search(read.name.upper()):
        return ""
    if value.lower() in ("true", "1") and "ENABLE" in read.name.upper():
        return "false"
    number = re.fullmatch(r"\d+(\s*(/|per)\s*\w+)?", value)
    return MANY + (number[1] or "") if number else ""


def engine(read: Read, text: str) -> str:
    """Return the value of a switch between databases that means PostgreSQL, "" if it is no such switch.

    `text`: of the module that reads the variable.
    """
    if read.default == "django.db.backends.sqlite3":
        return "django.db.backends.postgresql"
    if compared := re.search(rf"[\"']{read.name}[\"'][^\n]*== ?[\"'](postgres(?:ql)?)[\"']", text):
        return compared[1]
    if read.default and re.fullmatch(r"sqlite3?", read.default):
        found = re.search(r"[\"'](postgres(?:ql)?)[\"']", text)
        return found[1] if found else ""
    return ""


def mode(read: Read, example: str) -> str:
    """Return the local mode that an example names for a switch such as ENVIRONMENT, "" if it is none."""
    if MODE_NAME.fullmatch(read.name) and LOCAL_MODE.fullmatch(example):
        return example if (read.default or "").lower() != example.lower() else ""
    return ""


def _without_package(read: Read) -> str:
    """Return the name of a variable without that of the package that reads it, which may be mail_queue."""
    package = read.seen.removeprefix("src/").partition("/")[0].upper()
    return read.name.upper().removeprefix(f"{package}_") if "_" in package else read.name


def _tokens(name: str) -> list[str]:
    """Split a name at its underscores, and DBHOST and the like into two."""
    parts = "HOST|PORT|USER|PASSWORD|PASS|DATABASE|NAME|URL"
    name = re.sub(rf"(?<![A-Z0-9])(PG|DB|REDIS|POSTGRES)({parts})$", r"\1_\2", name)
    return [token for token in name.upper().split("_") if token]


def _server(tokens: list[str], read: Read, servers: set[str]) -> Server | None:
    """Return the server that a name is about, if the project uses it."""
    found = set(tokens)
    is_cache = tokens[-2:-1] == ["CACHE"] and PARTS.get(tokens[-1]) in ("host", "port", "password", "database")
    if (found & REDIS or is_cache or "RedisDsn" in read.kind) and "redis" in servers:
        return "redis"
    if (found & RABBITMQ or "AmqpDsn" in read.kind) and "rabbitmq" in servers:
        return "rabbitmq"
    if (found & POSTGRES or "PostgresDsn" in read.kind) and "postgres" in servers:
        return "postgres"
    if found & REDIS or found & POSTGRES or "postgres" not in servers:
        return None
    # DB_HOST, DATABASE_NAME, SQLALCHEMY_DATABASE_URI; but not CELERY_DB or the NAME of anything else.
    is_about = tokens[-1] in PARTS and (found - {tokens[-1]}) & DATABASE
    return "postgres" if is_about or tokens in (["DATABASE"], ["DB"]) else None


def _is_dsn(read: Read) -> bool:
    return bool(re.search(r"Dsn|Url\b|MultiHost", read.kind)) or read.kind in (
        *("db", "db_url", "dj_db_url"),
        *("cache", "cache_url", "dj_cache_url"),
    )


def _braced(text: str) -> str:
    """Write braces as templates do."""
    return text.replace("{", "{{").replace("}", "}}")
