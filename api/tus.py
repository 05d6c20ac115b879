"""tus 1.0, the protocol of resumable uploads: its headers read and written, its refusals in Weir's words.

Extensions: creation, creation-with-upload, checksum (of one request's bytes), termination, expiration. Border: headers and
digests; where bytes go is `api.scan_uploads`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from api.errors import ExtraStatus, Problem

if TYPE_CHECKING:
    from hashlib import _Hash

VERSION: Final = "1.0.0"
EXTENSIONS: Final = ("creation", "creation-with-upload", "checksum", "termination", "expiration")
MAX_BYTES: Final = 2 * 1024**3
BODY_TYPE: Final = "application/offset+octet-stream"
ALGORITHMS: Final = ("sha1", "sha256")

REQUEST_HEADERS: Final = ("Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata", "Upload-Checksum")
RESPONSE_HEADERS: Final = (
    *("Location", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm"),
    *("Upload-Offset", "Upload-Length", "Upload-Expires"),
)

_MAX_METADATA_CHARS: Final = 8_192
_NUMBER: Final = re.compile(r"[0-9]{1,15}")

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the bytes of one request must come to."""

    algorithm: str
    digest: bytes

    def begin(self) -> _Hash:
        """A digest to feed the bytes to."""
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def require(self, found: bytes) -> None:
        """Go on if that is what they came to.

        Raises:
            Problem: 460.
        """
        if found != self.digest:
            detail = f"the {self.algorithm} of the bytes is another than Upload-Checksum says; send them again"
            raise Problem(ExtraStatus.CHECKSUM_MISMATCH, "checksum_mismatch", detail)


@contextmanager
def spoken() -> Iterator[None]:
    """Whatever is refused in here says which protocol it speaks, as tus wants it."""
    try:
        yield
    except Problem as problem:
        problem.headers.setdefault("Tus-Resumable", VERSION)
        raise


def capabilities() -> dict[str, str]:
    """What a client learns by OPTIONS."""
    return {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": ",".join(EXTENSIONS),
        "Tus-Max-Size": str(MAX_BYTES),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }


def state(offset: int, length: int, expires_at: datetime | None) -> dict[str, str]:
    """How far an upload has come."""
    headers = {"Tus-Resumable": VERSION, "Upload-Offset": str(offset), "Upload-Length": str(length)}
    if expires_at is not None:
        headers["Upload-Expires"] = format_datetime(expires_at, usegmt=True)
    return headers


def require_version(headers: Headers, *, needed: bool = True) -> None:
    """Go on if the client speaks this version; `needed`: and says so.

    Raises:
        Problem: 412.
    """
    if headers.get("tus-resumable", None if needed else VERSION) != VERSION:
        detail = f"uploads speak tus {VERSION}: send the header Tus-Resumable: {VERSION}"
        raise Problem(HTTPStatus.PRECONDITION_FAILED, "unsupported_version", detail, headers={"Tus-Version": VERSION})


def require_body_type(headers: Headers) -> None:
    """Go on if the body is bytes of an upload.

    Raises:
        Problem: 415.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() != BODY_TYPE:
        detail = f"the bytes of an upload are sent as Content-Type: {BODY_TYPE}"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)


def upload_length(headers: Headers) -> int:
    """How long the file will be.

    Raises:
        Problem: 422, or 413 if that is too long.
    """
    length = _number(headers, "Upload-Length")
    if length > MAX_BYTES:
        detail = f"the file has {length} bytes, at most {MAX_BYTES} are taken; thin the cloud or split the scan"
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail)
    if length == 0:
        raise Problem.invalid(parameter="Upload-Length", detail="Upload-Length: the file is empty; expected some bytes")
    return length


def upload_offset(headers: Headers) -> int:
    """Where the bytes of a request begin.

    Raises:
        Problem: 422.
    """
    return _number(headers, "Upload-Offset")


def content_length(headers: Headers) -> int | None:
    """How long the body will be, if that is told."""
    told = headers.get("content-length", "")
    return int(told) if _NUMBER.fullmatch(told) else None


def metadata(headers: Headers) -> dict[str, str]:
    """The texts that a client gave with a new upload: names, each with a base64 value or none.

    Raises:
        Problem: 422.
    """
    told = headers.get("upload-metadata", "").strip()
    if len(told) > _MAX_METADATA_CHARS:
        raise _wrong(name="Upload-Metadata", how=f"expected at most {_MAX_METADATA_CHARS} characters")
    found: dict[str, str] = {}
    for pair in told.split(",") if told else []:
        name, _, value = pair.strip().partition(" ")
        try:
            found[name] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            raise _wrong(
                name="Upload-Metadata", how="expected `name base64,name base64`, the values in UTF-8"
            ) from None
    return found


def checksum(headers: Headers) -> Checksum | None:
    """What the bytes must come to, if the client says so.

    Raises:
        Problem: 400, an algorithm that is not known, or no digest of it.
    """
    told = headers.get("upload-checksum")
    if told is None:
        return None
    algorithm, _, encoded = told.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        detail = f"Upload-Checksum: the algorithm is none of {', '.join(ALGORITHMS)}"
        raise Problem(HTTPStatus.BAD_REQUEST, "unsupported_checksum", detail)
    try:
        digest = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        detail = f"Upload-Checksum: expected `{algorithm}` and its digest in base64"
        raise Problem(HTTPStatus.BAD_REQUEST, "unsupported_checksum", detail)
    return Checksum(algorithm, digest)


def _number(headers: Headers, name: str) -> int:
    told = headers.get(name.lower())
    if told is None or not _NUMBER.fullmatch(told):
        raise _wrong(name, "expected a whole number of bytes" if told is not None else "is missing; send it")
    return int(told)


def _wrong(name: str, how: str) -> Problem:
    return Problem.invalid(parameter=name, detail=f"{name}: {how}")
