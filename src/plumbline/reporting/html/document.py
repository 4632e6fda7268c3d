"""A whole HTML document with the style of the reports."""

import base64
import hashlib
from pathlib import Path

from plumbline.reporting.html.elements import Markup, tag


def document(title: str, *body: str, script: str = "") -> str:
    """Return a page that loads nothing, and that runs no script but this one."""
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{allowed}'; style-src 'unsafe-inline'"
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}; base-uri 'none'; form-action 'none'\">"
        f"{tag('title', title)}<style>{style}</style></head>"
        f"{tag('body', *body, Markup(f'<script>{script}</script>' if script else ''))}</html>\n"
    )
