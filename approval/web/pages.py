"""Pages from templates, and the headers under which every one of them is served."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from approval.core.meters import shown
from approval.core.spans import span_text
from approval.web import present, text
from approval.web.auth import Visitor

HERE: Final = Path(__file__).parent
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

HARDENING: Final[Mapping[str, str]] = {
    # Nothing but our own files, no inline anything, no frame around an approve button; and no
    # script turns a string into markup (`trusted-types 'none'`), because ours never needs to.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
HSTS: Final = "max-age=31536000"


class Pages:
    """Renders the templates; everything in them is escaped unless a template says otherwise.

    `trouble` says why nothing can be decided, if nothing can: every page tells it.
    """

    def __init__(self, trouble: Callable[[], str | None]) -> None:
        self._trouble = trouble
        files = sorted((HERE / "static").iterdir())
        self._files = {path.name: path.read_bytes() for path in files if path.suffix in TYPES}
        digest = hashlib.sha256(b"".join(self._files.values())).hexdigest()[:12]
        self._base = f"/static/{digest}"
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters |= {
            "ago": present.ago,
            "briefly": span_text,
            "clock": clock,
            "iso": present.stamp,
            "millis": millis,
            "minute": minute,
            "money": shown,
            "pieces": text.pieces,
            "plain": text.plain,
            "span": present.span,
        }
        self._templates.globals |= {"listeners": present.LISTENERS, "states": present.STATES}

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/static/{digest}/{name}", self._static)]

    def page(
        self, template: str, visitor: Visitor | None, *, status: int = 200, **values: object
    ) -> web.Response:
        """Render a page, for somebody or for nobody in particular."""
        html = self._templates.get_template(template).render(
            static=self._base, visitor=visitor, trouble=self._trouble(), **values
        )
        return web.Response(status=status, text=html, content_type="text/html")

    async def _static(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        body = self._files.get(name)
        if body is None:
            raise web.HTTPNotFound
        # The address holds the content's digest, so it never goes stale.
        return web.Response(
            body=body,
            content_type=TYPES[Path(name).suffix],
            charset="utf-8",
            headers={"Cache-Control": "public, max-age=31536000, immutable"},
        )


def clock(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S UTC")


def minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
