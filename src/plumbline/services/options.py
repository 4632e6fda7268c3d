"""The options of servers from `settings.toml`, as the servers take them."""

from plumbline.settings import ServerOption

EMPTY = '""'

Options = dict[str, ServerOption]


def redis_config(options: Options) -> str:
    """Return options as the text of a redis.conf. By default nothing is saved to disk."""
    merged = {"save": "", "appendonly": False, **options}
    spelt = {name: ("yes" if value else "no") if isinstance(value, bool) else value for name, value in merged.items()}
    return "".join(f"{name} {EMPTY if value == '' else value}\n" for name, value in spelt.items())


def postgres_options(options: Options) -> list[str]:
    """Return options as arguments of `postgres`. By default fsync is off."""
    merged = {"fsync": False, **options}
    spelt = {name: ("on" if value else "off") if isinstance(value, bool) else value for name, value in merged.items()}
    return [part for name, value in spelt.items() for part in ("-c", f"{name}={value}")]
