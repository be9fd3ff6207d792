"""Charts as files to save: PNG, SVG, and an HTML page without scripts."""

import html
import re

from starlette.responses import Response

from ixt_data.console import Spec, chart_png, chart_slug, chart_svg
from ixt_inspector.web.charts import MAX_LINES

FORMATS = ("png", "svg", "html")
LIGHT = {
    "--ink": "#1b1d20",
    "--soft": "#5c6169",
    "--line": "#dcddd7",
    "--accent": "#2b6280",
    "--line-0": "#2b6280",
    "--line-1": "#c2410c",
    "--line-2": "#4d7c0f",
    "--line-3": "#8b3fa0",
    "--line-4": "#a16207",
    "--line-5": "#5c6169",
}
"""The light theme of inspector.css."""
_DARK = {
    "--ink": "#e9e9e5",
    "--soft": "#a3a9b2",
    "--line": "#343941",
    "--accent": "#7fb8d8",
    "--line-0": "#7fb8d8",
    "--line-1": "#ff8a5c",
    "--line-2": "#a3d15a",
    "--line-3": "#d29ae0",
    "--line-4": "#e0b450",
    "--line-5": "#a3a9b2",
}
_BACKGROUND = "#ffffff"
_WIDTH = 720
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>:root {{ color-scheme: light dark; {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui; }}
svg {{ width: 100%; height: auto; }}</style></head>
<body><h1>{title}</h1>{svg}</body></html>
"""
LINE_COLORS = [f"var(--line-{number})" for number in range(MAX_LINES)]


def chart_file(spec: Spec, kind: str, title: str) -> Response:
    """Return a chart as a file that a browser saves.

    Args:
        spec: the chart, as the page shows it.
        kind: `png`, `svg` or `html`.
        title: its title, which names the file.
    """
    drawn = {**spec, "width": _WIDTH}
    # Selections are for a mouse, and links for the pages of this server.
    drawn.pop("params", None)
    if "href" in drawn.get("encoding", {}):
        drawn["encoding"] = {k: v for k, v in drawn["encoding"].items() if k != "href"}
    if "layer" in drawn:
        drawn["layer"] = [{k: v for k, v in one.items() if k != "params"} for one in drawn["layer"]]
    content: bytes | str
    if kind == "png":
        content, media = chart_png(drawn, LIGHT, _BACKGROUND), "image/png"
    elif kind == "svg":
        svg = chart_svg(drawn, chart_slug(title))
        for name, color in LIGHT.items():
            svg = svg.replace(f"var({name})", color)
        content, media = svg, "image/svg+xml"
    else:
        content = _PAGE.format(
            title=html.escape(title),
            light=" ".join(f"{name}: {color};" for name, color in LIGHT.items()),
            dark=" ".join(f"{name}: {color};" for name, color in _DARK.items()),
            svg=chart_svg(drawn, chart_slug(title)),
        )
        media = "text/html; charset=utf-8"
    # Only ASCII: a header has no other letters.
    name = re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-")[:80] or "chart"
    headers = {"Content-Disposition": f'attachment; filename="{name}.{kind}"'}
    return Response(content, media_type=media, headers=headers)
