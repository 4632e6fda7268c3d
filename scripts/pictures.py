"""Make the pictures of the documentation from real runs: `python -m scripts.pictures`, which needs chromium.

In a clone of the newest commit, `nox -s ci` compares an N+1 query with the base commit. `docs/pictures/` keeps the
results. `stale` names the pictures that are older than what they show.
"""

import argparse
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import structs
from rich.console import Console
from rich.terminal_theme import MONOKAI

from plumbline.reporting import terminal
from plumbline.reporting.html.page import render
from plumbline.results.files import read_results, write_results, write_whole
from plumbline.results.schema import Results
from scripts.clones import APP, NOX, REGRESSION, ROOT, cloned, run_sections

FOLDER = ROOT / "docs" / "pictures"
SUITE_FILE = "tests/performance/test_api_benchmarks.py"
# The code that the run measures, beside N_PLUS_ONE.
SOURCES = (APP, SUITE_FILE)
COLUMNS = 100
PAGE_SIZE = "1400,1000"
MOST_SAMPLES = 50

ONE_QUERY = """\
    items = await fetch(request, "SELECT id, name, price_cents FROM items ORDER BY id LIMIT $1", int(limit))
"""
N_PLUS_ONE = """\
    rows = await fetch(request, "SELECT id FROM items ORDER BY id LIMIT $1", int(limit))
    query = "SELECT id, name, price_cents FROM items WHERE id = $1"
    items = [(await fetch(request, query, row["id"]))[0] for row in rows]
"""

# Rich's own format loads a font from the network.
SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px "Fira Code", "DejaVu Sans Mono", Menlo, monospace }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


class Picture(msgspec.Struct, frozen=True):
    """Digests of a picture's file, and of what it shows."""

    file: str
    shows: str


class Pictures(msgspec.Struct, frozen=True):
    """The pictures by name, and the digest of the code that their run measured."""

    sources: str
    pictures: dict[str, Picture]


def digest(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def of_sources() -> str:
    return digest("".join([N_PLUS_ONE, *((ROOT / name).read_text(encoding="utf-8") for name in SOURCES)]))


def terminal_of(results: Results) -> Console:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    terminal.render(results, console)
    return console


def terminal_text(results: Results) -> str:
    return terminal_of(results).export_text()


def page(results: Results) -> str:
    return render(results, None, history=[])


def kept() -> Results:
    return read_results(FOLDER / "caught.json")


def shown() -> dict[str, str]:
    """Return what each picture shows, as the present code prints it, by the picture's name."""
    caught = kept()
    # Vega's script is that of an installed package, which draws no part of the picture's text.
    report = re.sub(r"<script>.*?</script>|script-src '[^']*'", "", page(caught), flags=re.DOTALL)
    return {"caught.svg": terminal_text(caught), "report.png": report}


def known() -> Pictures:
    return msgspec.json.decode((FOLDER / "pictures.json").read_bytes(), type=Pictures)


def stale() -> Iterator[str]:
    """Yield a sentence for each picture that is older than what it shows."""
    made = known()
    if made.sources != of_sources():
        yield "docs/pictures/caught.json is older than the code that its run measured"
    for name, content in shown().items():
        picture = made.pictures[name]
        if picture.file != digest((FOLDER / name).read_bytes()):
            yield f"docs/pictures/{name} is not the file that scripts.pictures made"
        elif picture.shows != digest(content):
            yield f"docs/pictures/{name} is older than the code that prints what it shows"


def make(options: argparse.Namespace) -> None:
    """Run the gate, and make each picture."""
    FOLDER.mkdir(exist_ok=True)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # they name its `nox`
    if not options.render:
        run_gates()
    draw(known().sources if options.render else of_sources())


def run_gates() -> None:
    """Keep the results of a run that catches an N+1 query."""
    with cloned() as clone:
        clone.git("switch", "--quiet", "--create", "list-items")
        clone.edit(APP, (ONE_QUERY, N_PLUS_ONE))
        clone.commit()
        clone.run(*NOX, "-s", "ci", "--", SUITE_FILE, codes=(REGRESSION,))
        keep(clone.root / "perf-results" / "results.json")


def keep(path: Path) -> None:
    """Keep results with fewer samples, and without a name for this machine."""
    results = read_results(path)
    benchmarks = [
        structs.replace(
            one,
            **{
                field: getattr(one, field)[:: len(getattr(one, field)) // MOST_SAMPLES + 1]
                for field in ("samples_s", "base_samples_s", "head_samples_s")
            },
        )
        for one in results.benchmarks
    ]
    environment = structs.replace(results.environment, machine="example")
    write_results(FOLDER / "caught.json", structs.replace(results, environment=environment, benchmarks=benchmarks))


def draw(sources: str) -> None:
    """Make the pictures from the kept results."""
    caught = kept()
    svg = terminal_of(caught).export_svg(title="uvx nox -s ci", theme=MONOKAI, code_format=SVG, unique_id="caught")
    write_whole(FOLDER / "caught.svg", "\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
    screenshot(page(caught), FOLDER / "report.png")
    pictures = {name: Picture(digest((FOLDER / name).read_bytes()), digest(text)) for name, text in shown().items()}
    made = msgspec.json.encode(Pictures(sources, pictures))
    write_whole(FOLDER / "pictures.json", msgspec.json.format(made).decode() + "\n")


def screenshot(text: str, path: Path) -> None:
    """Take a picture of the top of a page in chromium."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        sys.exit("no chromium found: install it, for the pictures of the HTML report")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(text, encoding="utf-8")
        command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={PAGE_SIZE}"]
        command += ["--blink-settings=preferredColorScheme=1", "--virtual-time-budget=5000"]
        command += [f"--user-data-dir={folder}/profile", f"--screenshot={path}", file.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the pictures of the documentation from real runs.")
    parser.add_argument("--render", action="store_true", help="draw the kept results again, without new runs")
    parser.set_defaults(runs=1)
    run_sections(parser, {"pictures": make})
