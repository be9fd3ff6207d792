"""Untrusted text for pages, and a parser of the tags of a page."""

from html.parser import HTMLParser

HOSTILE = (
    '</pre><script>alert("x")</script><img src=x onerror=alert(1)> {{ 7 * 7 }} \x1b[2J\u202eevil'
)


class Tags(HTMLParser):
    """Every tag and attribute of a page, and the attributes that load something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "action", "data"}:
                self.loads.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
