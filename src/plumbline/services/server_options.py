"""Server options of settings.toml in the spelling of each server, and the defaults of servers that are thrown away."""

from plumbline.settings import ServerOption

Options = dict[str, ServerOption]
EMPTY = '""'


def redis_config(options: Options) -> str:
    """Return options as the text of a redis.conf. By default nothing is kept on disk."""
    merged = {"save": "", "appendonly": False, **options}
    spelt = {name: ("yes" if value else "no") if isinstance(value, bool) else value for name, value in merged.items()}
    return "".join(f"{name} {EMPTY if value == '' else value}\n" for name, value in spelt.items())


def postgres_options(options: Options) -> list[str]:
    """Return options as arguments of `postgres`. By default no write waits for the disk."""
    merged = {"fsync": False, **options}
    spelt = {name: ("on" if value else "off") if isinstance(value, bool) else value for name, value in merged.items()}
    return [part for name, value in spelt.items() for part in ("-c", f"{name}={value}")]
