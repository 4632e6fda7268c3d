"""Configuration of the documentation, which `nox -s docs` builds."""

import sys
from pathlib import Path

import plumbline

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Plumbline"
copyright = "the Plumbline authors"  # noqa: A001 - Sphinx's name
release = plumbline.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "generated"]
exclude_patterns = ["_build", "_ext"]

myst_enable_extensions = ["colon_fence", "deflist"]
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
