"""The dashboard at `/`: one page, its modules and styles, and plotly's JavaScript from plotly's own wheel.

Border: files out, nothing of a tenant. Everything the page shows it asks the REST API and the live bridge for, with the
viewer's credential. Assets stand under the digest of all of them, so they are cached for good and change together.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.abc import Traversable
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.errors import Problem

router = APIRouter(include_in_schema=False)

_MEDIA_TYPES: Final = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "html": "text/html; charset=utf-8",
}
_FOR_GOOD: Final = "public, max-age=31536000, immutable"
_WORTH_PACKING_BYTES: Final = 1_024
# plotly writes its rules into one style element that it adds empty, and adds map styles that the page never uses. Nothing
# else is inline: no script, no eval, no style attribute.
EMPTY_STYLE: Final = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
PLOTLY_MAP_STYLE: Final = "sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o="
POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    f"style-src 'self' '{EMPTY_STYLE}' '{PLOTLY_MAP_STYLE}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent.

    Attributes:
        packed: the same, gzipped; None if that is not worth it.
    """

    media_type: str
    content: bytes
    packed: bytes | None

    @classmethod
    def of(cls, name: str, content: bytes) -> Asset:
        """The asset of a file's content."""
        packed = gzip.compress(content, 6, mtime=0) if len(content) >= _WORTH_PACKING_BYTES else None
        return cls(_MEDIA_TYPES[name.rpartition(".")[2]], content, packed)

    def response(self, request: Request, caching: str, **headers: str) -> Response:
        """What answers a request for it."""
        takes_packed = "gzip" in request.headers.get("accept-encoding", "")
        more = {"Cache-Control": caching, "Vary": "Accept-Encoding", **headers}
        if self.packed is not None and takes_packed:
            return Response(self.packed, headers=more | {"Content-Encoding": "gzip"}, media_type=self.media_type)
        return Response(self.content, headers=more, media_type=self.media_type)


@dataclass(frozen=True, slots=True)
class Bundle:
    """The page and what it loads.

    Attributes:
        digest: of all files together; part of their addresses.
        assets: by path below `/dashboard/<digest>/`.
    """

    digest: str
    page: Asset
    assets: dict[str, Asset]


@router.get("/")
async def dashboard(request: Request) -> Response:
    """The page."""
    found = await asyncio.to_thread(bundle)
    return found.page.response(request, "no-cache", **{"Content-Security-Policy": POLICY})


@router.get("/dashboard/plotly-{release}.min.js")
async def plotly_script(request: Request, release: str) -> Response:
    """Plotly's JavaScript as its wheel brings it; fetched by the page when it first draws a chart."""
    if release != plotly_release():
        raise Problem.not_found(what="file")
    asset = await asyncio.to_thread(_plotly)
    return asset.response(request, _FOR_GOOD)


@router.get("/dashboard/{digest}/{path:path}")
async def dashboard_file(request: Request, digest: str, path: str) -> Response:
    """A module or style. Under another release's digest it is today's file, which nobody may keep."""
    found = await asyncio.to_thread(bundle)
    asset = found.assets.get(path)
    if asset is None:
        raise Problem.not_found(what="file")
    return asset.response(request, _FOR_GOOD if digest == found.digest else "no-store")


@cache
def bundle() -> Bundle:
    """Everything, read once."""
    files = _read(resources.files("api") / "static" / "dashboard")
    page = files.pop("index.html").decode()
    digest = hashlib.sha256(b"\0".join(part for name in sorted(files) for part in (name.encode(), files[name])))
    name = digest.hexdigest()[:16]
    text = page.replace("{assets}", f"dashboard/{name}").replace("{plotly}", plotly_release())
    assets = {path: Asset.of(path, content) for path, content in files.items()}
    return Bundle(name, Asset.of("index.html", text.encode()), assets)


def plotly_release() -> str:
    """Which plotly is installed."""
    return version("plotly")


@cache
def _plotly() -> Asset:
    content = (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return Asset.of("plotly.min.js", content)


def _read(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _read(entry, f"{prefix}{entry.name}/")
        elif entry.name.rpartition(".")[2] in _MEDIA_TYPES:
            found[prefix + entry.name] = entry.read_bytes()
    return found
