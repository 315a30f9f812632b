"""index.html: the report as a page that needs no network and no server.

The files in assets/ and the results are put together into one HTML file; pictures and plots lie
beside it and are loaded when they come into view. Everything a picture's name could contain is
inserted as text by the script, never as markup.
"""

import html
import importlib.resources
import json
import re
from collections.abc import Mapping
from typing import Any


def render(results: Mapping[str, Any], plots: Mapping[str, str]) -> bytes:
    """The page of what results.json holds; plots: metric -> path of its PNG in the report."""
    assets = importlib.resources.files("glc_jax.evaluation") / "assets"
    title = f"{results['methods'][0]['label']} on {results['dataset']['label']}"
    parts = {
        "TITLE": html.escape(title),
        "STYLE": (assets / "page.css").read_text("utf-8"),
        "SCRIPT": (assets / "page.js").read_text("utf-8"),
        "DATA": _inert({**results, "plots": dict(plots)}),
    }
    page = (assets / "page.html").read_text("utf-8")
    return re.sub("@@([A-Z]+)@@", lambda mark: parts[mark[1]], page).encode()


def _inert(value: Any) -> str:
    """JSON without a "<", so that nothing in it can end the element it stands in."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
