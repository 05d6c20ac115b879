"""The headers of tus: read strictly, refused in one sentence each."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime

import pytest

from api import tus
from api.errors import Problem


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


def refusal(status: int) -> pytest.RaisesExc[Problem]:
    """A problem of this status."""
    return pytest.RaisesExc(Problem, check=lambda problem: problem.status == status)


@pytest.mark.parametrize("told", ["", "0.2.2", "1.0", "1.0.0 "])
def test_another_version_is_refused_with_the_one_that_is_spoken(told: str) -> None:
    with pytest.raises(Problem) as caught:
        tus.require_version({"tus-resumable": told})

    assert caught.value.status == 412
    assert caught.value.headers["Tus-Version"] == "1.0.0"


def test_the_length_is_from_one_byte_to_two_gibibytes() -> None:
    assert tus.upload_length({"upload-length": "1"}) == 1
    assert tus.upload_length({"upload-length": "2147483648"}) == 2 * 1024**3
    with refusal(413):
        tus.upload_length({"upload-length": "2147483649"})


@pytest.mark.parametrize("told", [None, "", "0", "-1", "1.0", "1e3", "٣", "9" * 16])
def test_what_is_no_length_is_refused(told: str | None) -> None:
    with refusal(422):
        tus.upload_length({} if told is None else {"upload-length": told})


def test_metadata_are_names_with_texts() -> None:
    told = f"filename {encoded('Küche.ply'.encode())}, is_final,note {encoded(b'')}"

    assert tus.metadata({"upload-metadata": told}) == {"filename": "Küche.ply", "is_final": "", "note": ""}
    assert tus.metadata({}) == {}


@pytest.mark.parametrize("told", ["filename ***", f"filename {encoded(bytes([255]))}", "x" * 8_193])
def test_metadata_that_cannot_be_read_are_refused(told: str) -> None:
    with refusal(422):
        tus.metadata({"upload-metadata": told})


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_checksum_holds_for_its_bytes_and_no_others(algorithm: str) -> None:
    digest = hashlib.new(algorithm, b"frames").digest()

    checksum = tus.checksum({"upload-checksum": f"{algorithm} {encoded(digest)}"})

    assert checksum is not None
    kept = checksum.begin()
    kept.update(b"frames")
    checksum.require(kept.digest())
    with refusal(460):
        checksum.require(hashlib.new(algorithm, b"Frames").digest())


@pytest.mark.parametrize(
    "told", ["md5 1B2M2Y8AsgTpgAmY7PhCfg==", "sha256", "sha256 ***", f"sha256 {encoded(b'short')}"]
)
def test_a_checksum_of_another_kind_or_length_is_refused(told: str) -> None:
    with refusal(400):
        tus.checksum({"upload-checksum": told})


def test_without_a_checksum_there_is_none() -> None:
    assert tus.checksum({}) is None


def test_the_state_tells_when_an_upload_ends() -> None:
    ends = datetime(2026, 11, 29, 20, 0, 0, tzinfo=UTC)

    assert tus.state(3, 10, ends) == {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "3",
        "Upload-Length": "10",
        "Upload-Expires": "Sun, 29 Nov 2026 20:00:00 GMT",
    }
    assert "Upload-Expires" not in tus.state(10, 10, None)


def test_a_refusal_inside_says_which_protocol_it_speaks() -> None:
    with pytest.raises(Problem) as caught, tus.spoken():
        raise Problem.not_found(what="file")

    assert caught.value.headers["Tus-Resumable"] == "1.0.0"


def test_the_body_type_may_have_parameters() -> None:
    tus.require_body_type({"content-type": "Application/Offset+Octet-Stream; charset=binary"})
    with refusal(415):
        tus.require_body_type({"content-type": "application/octet-stream"})
