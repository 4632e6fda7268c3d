"""Variables are found where code reads them, and mapped to the servers of a run."""

import pytest

from tests.unit.adopting.conftest import Search

APP = "from fastapi import FastAPI\nfrom shop import settings\n\napp = FastAPI()\n"
PACKAGES = '[project]\nname = "shop"\nversion = "1"\ndependencies = ["fastapi", "asyncpg", "redis"]\n'
ASYNCPG = "postgresql+asyncpg://{postgres.user}:{postgres.password}@{postgres.host}:{postgres.port}/{postgres.database}"


def variables(search: Search, settings: str, **files: str) -> dict[str, str]:
    named = {name.replace("__", ".").replace("_slash_", "/"): text for name, text in files.items()}
    found = search({"pyproject.toml": PACKAGES, "shop/main.py": APP, "shop/settings.py": settings, **named})
    return {one.name: one.template for one in found.variables}


PYDANTIC = "from pydantic import *\nfrom pydantic_settings import BaseSettings, SettingsConfigDict\n"


class TestPydanticSettings:
    def test_parts_of_an_address(self, search: Search) -> None:
        found = variables(
            search,
            PYDANTIC
            + """
class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="shop_", env_file=".env")
    debug: bool = False
    pool_size: int = 5
    postgres_server: str
    db_port: int = 5432
    db_user: str = "shop"
    db_pass: SecretStr
    db_base: str = "shop"
    redis_host: str = "localhost"
    redis_port: int = 6379
    redis_db: int | None = None

settings = Settings()
""",
        )

        assert found == {
            "SHOP_POSTGRES_SERVER": "{postgres.host}",
            "SHOP_DB_PORT": "{postgres.port}",
            "SHOP_DB_USER": "{postgres.user}",
            "SHOP_DB_PASS": "{postgres.password}",
            "SHOP_DB_BASE": "{postgres.database}",
            "SHOP_REDIS_HOST": "{redis.host}",
            "SHOP_REDIS_PORT": "{redis.port}",
            "SHOP_REDIS_DB": "{redis.database}",
        }

    def test_urls(self, search: Search) -> None:
        found = variables(
            search,
            PYDANTIC
            + """
class Settings(BaseSettings):
    DATABASE_URL: PostgresDsn
    DATABASE_ASYNC_URL: PostgresDsn = "postgresql+asyncpg://shop:shop@localhost/shop"
    cache: RedisDsn = Field(alias="CACHE_LOCATION")
    broker_url: str = "redis://localhost:6379/1"
    queue_url: str = "amqp://guest@localhost"
    archive_url: str = "sqlite:///archive.db"
""",
        )

        assert found == {
            "DATABASE_URL": "{postgres.url}",
            "DATABASE_ASYNC_URL": ASYNCPG,
            "CACHE_LOCATION": "{redis.url}",
            "BROKER_URL": "{redis.url}",
            "ARCHIVE_URL": "sqlite:///{root}/tests/performance/archive.sqlite",
        }

    def test_a_url_that_is_put_together_from_parts_is_left_out(self, search: Search) -> None:
        found = variables(
            search,
            PYDANTIC
            + """
class Settings(BaseSettings):
    DB_HOST: str = "localhost"
    DB_URL: str | None = None
    DB_URI: str = f"{DB_HOST}/shop"
    DB_ASYNC_PREFIX: str = "postgresql+asyncpg://"
""",
        )

        assert found == {"DB_HOST": "{postgres.host}"}

    def test_nested_settings(self, search: Search) -> None:
        found = variables(
            search,
            PYDANTIC
            + """
class Database(BaseModel):
    host: str = "localhost"
    password: str

class Base(BaseSettings):
    model_config = {"env_prefix": "APP__", "env_nested_delimiter": "__"}

class Settings(Base):
    database: Database
""",
        )

        assert found == {"APP__DATABASE__HOST": "{postgres.host}", "APP__DATABASE__PASSWORD": "{postgres.password}"}

    def test_required_ones_get_a_harmless_value(self, search: Search) -> None:
        found = variables(
            search,
            PYDANTIC
            + """
from enum import Enum
class Mode(str, Enum):
    PRODUCTION = "production"
    LOCAL = "local"

class Settings(BaseSettings):
    project_name: str
    secret_key: SecretStr
    encryption_key: str
    admin_email: EmailStr
    frontend: HttpUrl
    workers: int
    verbose: bool
    origins: list[str]
    mode: Mode
    level: Literal["high", "low"]
    levels: list[Literal["high", "low"]]
    ports: set[int]
    limits: dict[str, int]
    optional: str | None = None
""",
        )

        assert found == {
            "PROJECT_NAME": "plumbline",
            "SECRET_KEY": "plumbline-plumbline-plumbline-plumbline",
            "ENCRYPTION_KEY": "cGx1bWJsaW5lcGx1bWJsaW5lcGx1bWJsaW5lcGx1bWI=",
            "ADMIN_EMAIL": "plumbline@example.com",
            "FRONTEND": "http://localhost",
            "WORKERS": "60",
            "VERBOSE": "false",
            "ORIGINS": "[]",
            "MODE": "local",
            "LEVEL": "high",
            "LEVELS": "[]",
            "PORTS": "[]",
            "LIMITS": "{{}}",
        }

    def test_pydantic_1(self, search: Search) -> None:
        found = variables(
            search,
            """
from pydantic import BaseSettings, Field, PostgresDsn

class Settings(BaseSettings):
    database: PostgresDsn = Field(..., env="DB_DSN")
    token: str

    class Config:
        env_prefix = "shop_"
""",
        )

        assert found == {"DB_DSN": "{postgres.url}", "SHOP_TOKEN": "plumbline-plumbline-plumbline-plumbline"}


@pytest.mark.parametrize(
    ("line", "template"),
    [
        ('import os\nos.environ["DATABASE_URL"]', "{postgres.url}"),
        ('from os import environ\nenviron.get("PGHOST", "db")', "{postgres.host}"),
        ('from os import getenv\ngetenv("REDIS_URL") or "redis://"', "{redis.url}"),
        ('import environ\nenv = environ.Env()\nenv.db("DATABASE_URL", default="postgres:///shop")', "{postgres.url}"),
        ("import environ\nenv = environ.Env()\nenv.db()", "{postgres.url}"),
        ('import environ\nenviron.Env(CACHE_URL=(str, "redis://localhost"))', "{redis.url}"),
        (
            'from environs import Env\nenv = Env()\nwith env.prefixed("SHOP_"):\n    env.str("DB_HOST")',
            "{postgres.host}",
        ),
        ('from decouple import config\nconfig("DB_PORT", cast=int, default=5432)', "{postgres.port}"),
        ('from starlette.config import Config\nconfig = Config(".env")\nconfig("POSTGRES_DB")', "{postgres.database}"),
        ('from shop.env import get_env\nget_env("SAQ_REDIS_URL", "redis://localhost")', "{redis.url}"),
        ("import dj_database_url\ndj_database_url.config()", "{postgres.url}"),
        ('import os\nos.environ["CACHE_HOST"]', "{redis.host}"),
        (
            'import os\nos.environ["REDIS_ADDRESS"] if os.getenv("REDIS_ADDRESS", "localhost:6379") else 0',
            "{redis.host}:{redis.port}",
        ),
    ],
)
def test_calls_that_read_a_variable(search: Search, line: str, template: str) -> None:
    assert list(variables(search, line).values()) == [template]


AMQP = "amqp://{rabbitmq.host}:{rabbitmq.port}/"


@pytest.mark.parametrize(
    ("line", "template"),
    [
        ('os.getenv("BROKER_URL", "pyamqp://shop:s3cr3t@queue/shop")', f"py{AMQP}"),
        ('os.getenv("SHOP_EVENTS", "amqps://shop@queue")', AMQP),
        ('os.environ["CELERY_BROKER_URL"]', AMQP),
        ('os.getenv("CELERY_BROKER_URL")', AMQP),
        ('os.environ["RABBITMQ_HOST"]', "{rabbitmq.host}"),
        ('os.environ["RABBIT_PORT"]', "{rabbitmq.port}"),
        ('os.environ["AMQP_USER"]', "guest"),
        ('os.environ["RABBITMQ_PASSWORD"]', "guest"),
        ('os.environ["RABBITMQ_VHOST"]', "/"),
        ('os.environ["CELERY_RESULT_BACKEND"]', "rpc://"),
        ('os.getenv("CELERY_BROKER_URL", "redis://localhost/1")', "{redis.url}"),
    ],
)
def test_rabbitmq(search: Search, line: str, template: str) -> None:
    found = variables(search, f"import os\n{line}", compose__yml="services:\n  queue:\n    image: rabbitmq\n")

    assert list(found.values()) == [template]


@pytest.mark.parametrize(
    "line",
    [
        'import os\nif os.getenv("MAIL"):\n    os.environ["MAIL_HOST"]',
        'import os\ndef later():\n    return os.environ["LATER"]',
        'import os\nos.environ.setdefault("MODE", "local")\nos.environ["MODE"]',
        'from decouple import config\nconfig("TIMEOUT", default=3)',
        "from flask import current_app\ncurrent_app.config.get('DATABASE_URL')",
        'import os\nos.environ["MYSQL_HOST"] if 0 else os.getenv("MONGO_URL")',
    ],
)
def test_reads_that_need_no_value(search: Search, line: str) -> None:
    assert variables(search, line) == {}


def test_the_scheme_that_tortoise_knows(search: Search) -> None:
    code = 'import os\nfrom tortoise import Tortoise\nos.getenv("DATABASE_URL", "postgresql://shop@db/shop")\n'

    [template] = variables(search, code).values()

    assert template.startswith("postgres://{postgres.user}:")
    assert template.endswith("/{postgres.database}")


@pytest.mark.parametrize(
    ("file", "name", "template"),
    [
        ("mail_queue/main.py", "MAIL_QUEUE_DB_HOST", "{postgres.host}"),
        ("src/s3_files/main.py", "S3_FILES_REDIS_URL", "{redis.url}"),
        ("contest/main.py", "LATEST_DB_HOST", "{postgres.host}"),
        ("pg_shop/main.py", "PG_SHOP_PORT", None),
        ("mail_queue/main.py", "MAIL_DB_HOST", None),
        ("mongo/main.py", "MONGO_DB_HOST", None),
    ],
)
def test_the_name_of_the_package_is_no_server(search: Search, file: str, name: str, template: str | None) -> None:
    packages = "fastapi\nasyncpg\nredis\n"

    found = search({file: f'{APP}\nimport os\nos.getenv("{name}")\n', "requirements.txt": packages})

    assert [one.template for one in found.variables] == ([template] if template else [])


def test_a_file_in_git_sets_what_names_no_server(search: Search) -> None:
    code = 'import os\nos.environ["API_KEY"]\nos.environ["DB_HOST"]\nos.environ["TOKEN"]\n'

    found = variables(search, code, __env="API_KEY=1234\nDB_HOST=db\n")

    assert found.keys() == {"DB_HOST", "TOKEN"}


def test_imports_from_the_root_beside_those_of_the_application(search: Search) -> None:
    files = {
        "src/main.py": "import web\nfrom fastapi import FastAPI\nfrom src.config import URL\n\napp = FastAPI()\n",
        "src/web/__init__.py": "",
        "src/config.py": 'import os\nURL = os.environ["DATABASE_URL"]\n',
    }

    found = search({**files, "requirements.txt": "fastapi\nasyncpg\n"})

    assert (found.applications[0].directory, [one.name for one in found.variables]) == ("src", ["DATABASE_URL"])


def test_only_what_the_application_imports_counts(search: Search) -> None:
    assert variables(search, "", tools_slash_deploy__py='import os\nos.environ["DATABASE_PASSWORD"]') == {}


@pytest.mark.parametrize(
    ("line", "template"),
    [
        ('os.getenv("DATABASE_URL", "sqlite:///./data/shop.db")', "sqlite:///{root}/tests/performance/shop.sqlite"),
        (
            'os.getenv("DB", "sqlite+aiosqlite:////srv/x.db?a=1")',
            "sqlite+aiosqlite:///{root}/tests/performance/x.sqlite?a=1",
        ),
        ('os.getenv("DB_URL", "sqlite://shop.sqlite3")', "sqlite://{root}/tests/performance/shop.sqlite"),
        ('os.getenv("SQLITE_PATH", "data/shop.sqlite3")', "{root}/tests/performance/shop.sqlite"),
        ('os.getenv("DATABASE_URL", "sqlite://")', None),
        ('os.getenv("DATABASE_URL", "sqlite:///:memory:")', None),
        ('os.getenv("TEST_DATABASE_URL", "sqlite:///test.db")', None),
        ('os.getenv("DATABASE_URL", "mysql://localhost/shop")', None),
    ],
)
def test_a_run_has_files_of_sqlite_of_its_own(search: Search, line: str, template: str | None) -> None:
    found = search({"shop/main.py": APP, "shop/settings.py": f"import os\n{line}"})

    assert [one.template for one in found.variables] == ([template] if template else [])


class TestExamples:
    SETTINGS = (
        PYDANTIC
        + """
class Settings(BaseSettings):
    api_name: str
    signing: str
    environment: str = "production"
    database_url: str
"""
    )

    def test_values_of_an_example(self, search: Search) -> None:
        example = """
API_NAME="the shop" # its name
SIGNING=changethis
ENVIRONMENT=LOCAL
DATABASE_URL=postgresql+asyncpg://a:b@db/c
"""

        assert variables(search, self.SETTINGS, __env__example=example) == {
            "DATABASE_URL": ASYNCPG,
            "API_NAME": "the shop",
            "SIGNING": "plumbline",
            "ENVIRONMENT": "LOCAL",
        }

    def test_values_of_a_real_file_are_secret(self, search: Search) -> None:
        files = {"pyproject.toml": PACKAGES, "shop/main.py": APP, "shop/settings.py": self.SETTINGS}
        secrets = "API_NAME=s3cr3t\nSIGNING=s3cr3t\nDATABASE_URL=postgresql+asyncpg://a:s3cr3t@db/c\n"

        found = search({**files, ".env": secrets})

        assert "s3cr3t" not in repr(found)
        assert found.variables[0].template == ASYNCPG

    def test_no_default_is_shown(self, search: Search) -> None:
        settings = 'import os\nos.getenv("REDIS_URL", "redis://:s3cr3t@localhost")\nos.getenv("DB_PASSWORD", "s3cr3t")'
        files = {"pyproject.toml": PACKAGES, "shop/main.py": APP, "shop/settings.py": settings}

        found = search({**files, "compose.yml": "services:\n  r:\n    image: mysql\n    environment: [P=s3cr3t]\n"})

        assert [one.name for one in found.variables] == ["DB_PASSWORD", "REDIS_URL"]
        assert "s3cr3t" not in repr(found)


def test_the_driver_of_sqlalchemy(search: Search) -> None:
    settings = "import os\nfrom sqlalchemy.ext.asyncio import *\ncreate_async_engine(os.environ['DATABASE_URL'])"

    assert variables(search, settings) == {"DATABASE_URL": ASYNCPG}


@pytest.mark.parametrize("hosts", ["[]", '["example.com"]', '["*"]'])
def test_django_in_production(search: Search, hosts: str) -> None:
    settings = f"""
import environ
env = environ.Env()
ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS", default={hosts})
SECURE_SSL_REDIRECT = env.bool("DJANGO_SECURE_SSL_REDIRECT", default=True)
"""
    found = variables(search, settings)

    allowed = {} if "*" in hosts else {"DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost"}
    assert found == {**allowed, "DJANGO_SECURE_SSL_REDIRECT": "false"}


@pytest.mark.parametrize(
    ("line", "password", "database"),
    [
        ('os.getenv("REDIS_HOST", "localhost")', False, False),
        ('os.getenv("REDIS_HOST"), os.getenv("REDIS_PASSWORD"), os.getenv("REDIS_DB")', True, True),
        ('os.getenv("REDIS_URL")', True, True),
    ],
)
def test_what_the_application_takes_of_redis(search: Search, line: str, password: bool, database: bool) -> None:
    found = search({"pyproject.toml": PACKAGES, "shop/main.py": APP, "shop/settings.py": f"import os\n{line}"})

    assert (found.redis_password, found.redis_database) == (password, database)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ('import os\nif os.getenv("DB") == "postgres":\n    pass', "DB", "postgres"),
        ('import os\nENGINES = {"postgresql": 1}\nos.getenv("DB_ENGINE", "sqlite")', "DB_ENGINE", "postgresql"),
        (
            'import os\nos.getenv("SQL_ENGINE", "django.db.backends.sqlite3")',
            "SQL_ENGINE",
            "django.db.backends.postgresql",
        ),
    ],
)
def test_a_switch_between_databases(search: Search, line: str, name: str, value: str) -> None:
    assert variables(search, line) == {name: value}


def test_a_variable_that_replaces_another_is_left_out(search: Search) -> None:
    line = 'import os\nos.getenv("SHOP_REDIS_URL", os.getenv("REDIS_URL", "redis://localhost"))'

    assert variables(search, line) == {"SHOP_REDIS_URL": "{redis.url}"}


def test_replicas_are_left_out(search: Search) -> None:
    line = 'import os\nos.getenv("DB_HOST")\nos.getenv("DB_READ_HOST")'

    assert variables(search, line) == {"DB_HOST": "{postgres.host}"}


def test_the_settings_module_of_django(search: Search) -> None:
    """If manage.py would use other settings than the application. Variables of other settings do not count."""
    set_default = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'config.settings.{}')\n"
    wsgi = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
    found = search(
        {
            "manage.py": set_default.format("local"),
            "config/celery.py": set_default.format("local"),
            "config/wsgi.py": set_default.format("production") + wsgi,
            "config/settings/base.py": "APPS = ['config.celery']\n",
            "config/settings/local.py": "import os\nos.environ['ONLY_LOCAL']\n",
            "config/settings/production.py": "import os\nfrom .base import *\nos.environ['SECRET_KEY']\n",
        }
    )

    assert [(one.name, one.template) for one in found.variables] == [
        ("DJANGO_SETTINGS_MODULE", "config.settings.production"),
        ("SECRET_KEY", "plumbline-plumbline-plumbline-plumbline"),
    ]


def test_the_settings_module_of_a_dockerfile(search: Search) -> None:
    set_default = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'config.local')\n"
    found = search(
        {
            "manage.py": set_default,
            "config/wsgi.py": set_default
            + "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
            "config/local.py": "",
            "config/production.py": "from .missing import *\nfrom .local import *\n",
            "Dockerfile": "FROM python\nENV DJANGO_SETTINGS_MODULE=config.production \\\n    OTHER=1\n",
        }
    )

    assert [(one.name, one.template, one.seen) for one in found.variables] == [
        ("DJANGO_SETTINGS_MODULE", "config.production", "Dockerfile: DJANGO_SETTINGS_MODULE")
    ]


def test_a_field_that_another_variable_fills(search: Search) -> None:
    settings = PYDANTIC + (
        "from decouple import config\n"
        "class Settings(BaseSettings):\n"
        "    DB_POSTGRES_HOST: str = config('POSTGRES_HOST')\n"
        "    DB_POSTGRES_PORT: int = config('DB_POSTGRES_PORT', cast=int)\n"
    )

    assert variables(search, settings) == {"POSTGRES_HOST": "{postgres.host}", "DB_POSTGRES_PORT": "{postgres.port}"}


def test_a_variable_for_tls_is_left_out(search: Search) -> None:
    line = 'import os\nos.getenv("REDIS_TLS_URL", os.getenv("REDIS_URL"))'

    assert variables(search, line) == {"REDIS_URL": "{redis.url}"}


def test_dynaconf(search: Search) -> None:
    settings = "from dynaconf import Dynaconf\nsettings = Dynaconf(envvar_prefix='SHOP')"
    toml = """
        [default]
        database_url = "postgresql+asyncpg://db/shop"
        page_size = 10
        [production]
        redis_host = "redis"
    """

    assert variables(search, settings, settings__toml=toml) == {
        "SHOP_DATABASE_URL": ASYNCPG,
        "SHOP_REDIS_HOST": "{redis.host}",
    }


@pytest.mark.parametrize(
    ("line", "template"),
    [
        ('os.getenv("RATE_LIMIT_ENABLED", "true")', "false"),
        ('int(os.getenv("DEFAULT_RATE_LIMIT", "10"))', "1000000"),
        ('os.getenv("API_THROTTLE", "100/minute")', "1000000/minute"),
        ('int(os.getenv("RATE_LIMIT_PERIOD", "3600"))', None),
        ('os.getenv("RATE_LIMIT_HEADER", "X-Rate")', None),
    ],
)
def test_rate_limits_let_benchmarks_pass(search: Search, line: str, template: str | None) -> None:
    assert [*variables(search, f"import os\n{line}").values()] == ([template] if template else [])


def test_what_django_environ_requires(search: Search) -> None:
    names = ["CELERY_BROKER_URL", "SENTRY_DSN"]
    lines = [*(f'env("{name}")' for name in names), "env.cache()", "env.email()", 'env.cache("OTHER")']
    settings = "\n".join(["import environ", "env = environ.Env()", *lines])

    assert variables(search, settings) == {
        **dict.fromkeys(["CELERY_BROKER_URL", "CACHE_URL", "OTHER"], "{redis.url}"),
        "SENTRY_DSN": "",
        "EMAIL_URL": "consolemail://",
    }


def test_switches_of_a_dockerfile(search: Search) -> None:
    settings = "import os\n" + "\n".join(
        f'os.getenv("{name}")' for name in ("ENV_CONFIG", "DATA_PATH", "ENVIRONMENT", "PLUGINS")
    )
    dockerfile = "FROM python\nENV ENV_CONFIG=1 DATA_PATH=x ENVIRONMENT=production PLUGINS=/app/plugins OTHER=1\n"

    assert variables(search, settings, Dockerfile=dockerfile) == {"ENV_CONFIG": "1"}


def test_secrets_of_the_application_itself(search: Search) -> None:
    names = ["SECRET_KEY", "SESSION_SALT", "STRIPE_SECRET_KEY", "AWS_SECRET"]
    settings = "import os\n" + "\n".join(f'os.getenv("{name}")' for name in names)

    assert list(variables(search, settings)) == ["SECRET_KEY", "SESSION_SALT"]


def test_the_first_user_has_a_login_that_is_known(search: Search) -> None:
    names = [
        "FIRST_ADMIN_PASSWORD",
        "FIRST_ADMIN_USERNAME",
        "FIRST_ADMIN_EMAIL",
        "FIRST_ADMIN_ID",
        "MINIO_ADMIN_PASSWORD",
    ]
    settings = "import os\n" + "\n".join(f'os.getenv("{name}", "1")' for name in names)

    assert variables(search, settings) == {
        "FIRST_ADMIN_USERNAME": "plumbline",
        "FIRST_ADMIN_PASSWORD": "Plumbline-1-benchmark",
        "FIRST_ADMIN_EMAIL": "plumbline@example.com",
    }
