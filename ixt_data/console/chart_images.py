"""Charts as SVG and PNG, drawn by vl-convert without a browser or the network."""

import json
import re
from collections.abc import Mapping

from ixt_data.console.charts import Spec

VEGA_LITE_VERSION = "5.20"
"""A version that vl-convert bundles, of the schema that the specs name."""
_VARIABLE = re.compile(r"var\((--[\w-]+)\)")


def chart_svg(spec: Spec, name: str) -> str:
    """Return a chart as an SVG element of a page.

    Colours remain CSS variables of the page. The element has the page's width and keeps its
    proportions.

    Args:
        spec: chart to draw.
        name: prefix of the ids in the SVG, unique on the page.
    """
    import vl_convert

    drawn: str = vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=VEGA_LITE_VERSION)
    prefix = chart_slug(name)
    drawn = re.sub(r'\bid="', f'id="{prefix}-', drawn)
    drawn = re.sub(r'url\(([\'"]?)#', rf"url(\1#{prefix}-", drawn)
    # Without a width and a height of its own, an SVG fills the width of its container.
    return re.sub(r'(<svg[^>]*?) width="[\d.]+" height="[\d.]+"', r"\1", drawn, count=1)


def chart_png(spec: Spec, colors: Mapping[str, str], background: str) -> bytes:
    """Return a chart as a PNG file at twice its size.

    Args:
        spec: chart to draw.
        colors: colour by CSS variable, such as `--ink`, because a PNG has no page around it.
        background: colour behind the chart.

    Raises:
        KeyError: the chart uses a variable that `colors` does not define.
    """
    import vl_convert

    text = json.dumps({**spec, "background": background})
    text = _VARIABLE.sub(lambda match: colors[match[1]], text)
    drawn: bytes = vl_convert.vegalite_to_png(text, vl_version=VEGA_LITE_VERSION, scale=2)
    return drawn


def chart_slug(name: str) -> str:
    """Return a name without characters that ids and file names do not allow."""
    return re.sub(r"\W+", "-", name)
