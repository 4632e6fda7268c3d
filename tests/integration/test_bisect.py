"""`plumbline bisect` on a small history, by a count."""

from pathlib import Path

from tests.support.documentation import DOCS, not_printed
from tests.support.project import SETTINGS, Project

CODE = """\
import redis

KEYS = [f"item:{number}" for number in range(5)]


def client(url):
    return redis.Redis.from_url(url)


def items(client):
    return client.mget(KEYS)
"""
SUITE = '''\
"""A benchmark of a Redis client."""

from cart import client, items

from plumbline import Measure


def test_items(redis_url: str, measure: Measure) -> None:
    """Read ten items."""
    with client(redis_url) as one:
        for timer in measure():
            with timer:
                items(one)
'''
# Commits after the first one: subjects, and changes of the code. All change the README.
HISTORY = {
    "Name the cart": ("", ""),
    "Explain the cart": ("", ""),
    "Name items": ("", ""),
    "Sort items": ("import redis", "import redis, not_there"),
    "Do not sort items": (", not_there", ""),
    "Describe items": ("", ""),
    "Read items one by one": ("return client.mget(KEYS)", "return [client.get(key) for key in KEYS]"),
    "Explain items": ("", ""),
}
# The count decides. The pairs only need to be run.
LIMITS = "tolerance = 0.9\nminimum_effect = 0.99\n"


def test_the_commit_with_an_n_plus_one_is_found(environments: Path, tmp_path: Path) -> None:
    """A commit that can't be imported is skipped, and those that do not change the code are not counted."""
    project = Project.create(tmp_path / "project", environments)
    (project.suite / "test_suite.py").unlink()
    settings = SETTINGS.replace('backend = "off"', 'backend = "embedded"').replace("[gate]\n", f"[gate]\n{LIMITS}")
    project.write("settings.toml", f'{settings}\n[postgres]\nbackend = "off"\n')
    project.write("test_cart.py", SUITE)
    project.git("init", "--quiet", "--initial-branch=main")
    text = CODE
    for subject, change in {"Start": ("", ""), **HISTORY}.items():
        text = text.replace(*change)
        (project.root / "cart.py").write_text(text)
        (project.root / "README.md").write_text(subject)
        project.commit(subject)
    hashes = dict(zip(["Start", *HISTORY], project.git("rev-list", "--reverse", "HEAD").split(), strict=True))

    cache = str(environments.parent / "cache")
    done = project.run("bisect", hashes["Start"], "-k", "items", "--limit=30", XDG_CACHE_HOME=cache, COLUMNS="200")

    assert done.code == 1, done.output
    steps = {
        "Sort items": "skipped: ",
        "Explain the cart": "good: it runs no changed code",
        "Describe items": "good: it runs no changed code",
        "Read items one by one": "bad, 5",
    }
    for subject, answer in steps.items():
        assert f"\n  {hashes[subject][:10]} {subject}: {answer}" in done.output
    assert f"First bad commit: {hashes['Read items one by one']}\n" in done.output
    assert not_printed(DOCS / "how-to" / "bisect.md", done.output) == [], done.output
    assert not project.git("status", "--porcelain")
