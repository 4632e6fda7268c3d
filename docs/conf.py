"""Configuration of the documentation, which `nox -s docs` builds."""

import re
from pathlib import Path
from typing import Any

import plumbline

project = "Plumbline"
copyright = "the Plumbline authors"  # noqa: A001 - Sphinx's name
release = plumbline.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4  # as on GitHub

default_role = "code"  # docstrings quote names in single backticks
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
# Types of other packages, whose documentation is not at hand without a network.
nitpick_ignore_regex = [("py:.*", r"(?!plumbline\.).*")]

html_theme = "furo"
html_title = "Plumbline"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False
html_show_search_summary = False  # a browser can't read other files of a folder
copybutton_exclude = ".linenos, .gp, .go"


REASONS = Path(plumbline.__file__).with_name("reporting") / "reasons.md"


def setup(app: Any) -> None:
    """Let Sphinx complete each page that it reads."""
    app.connect("source-read", complete)


def complete(_app: object, page: str, source: list[str]) -> None:
    """Put the pages that an index links to into the sidebar, and the text of the reasons onto their page."""
    if page.endswith("index"):
        pages = dict.fromkeys(re.findall(r"\]\((?!\.\.)([\w/-]+)\.md\)", source[0]))
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", "", *pages, "```", ""])
    if page == "reference/reasons":
        source[0] = REASONS.read_text(encoding="utf-8")
