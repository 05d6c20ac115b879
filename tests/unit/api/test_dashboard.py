"""The dashboard's files: complete, cached by what they hold, under a policy that lets nothing inline run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from importlib import resources
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from api import dashboard
from api.app import create_app
from core.settings import Settings
from tests.architecture.tree import ROOT

FOLDER = ROOT / "api" / "static" / "dashboard"
MODULES = sorted(FOLDER.rglob("*.js"))


@pytest.fixture(scope="module")
def client() -> TestClient:
    database_url = SecretStr("postgresql://nobody@127.0.0.1:1/none")
    return TestClient(create_app(Settings(database_url=database_url, secret_key=SecretStr("k" * 32))))


def test_the_page_names_files_that_are_there_and_nothing_elsewhere(client: TestClient) -> None:
    page = client.get("/")

    addresses = re.findall(r'(?:src|href|data-plotly)="([^"#]+)"', page.text)
    assert len(addresses) == 8
    for address in addresses:
        assert client.get(f"/{address}").status_code == 200, address
    assert "{" not in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"


def test_nothing_inline_may_run_and_nobody_may_frame_the_page(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]

    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self';")
    assert policy.endswith("base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


def test_the_two_styles_that_plotly_adds_are_the_ones_that_the_policy_allows() -> None:
    script = (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    maps = re.findall(r"""textContent=(['"])(\.maplibregl-map.*?)\1""", script)

    def allowed(style: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    assert [allowed(style) for _, style in maps] == [dashboard.PLOTLY_MAP_STYLE]
    assert allowed("") == dashboard.EMPTY_STYLE


def test_assets_are_kept_for_good_under_their_digest_and_never_under_another(client: TestClient) -> None:
    digest = dashboard.bundle().digest

    kept = client.get(f"/dashboard/{digest}/main.js")
    other = client.get("/dashboard/0123456789abcdef/main.js")

    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert other.headers["cache-control"] == "no-store"
    assert kept.text == other.text == (FOLDER / "main.js").read_text(encoding="utf-8")
    assert kept.headers["content-type"] == "text/javascript; charset=utf-8"
    assert kept.headers["x-content-type-options"] == "nosniff"


def test_plotly_comes_from_its_wheel_packed_and_for_good(client: TestClient) -> None:
    address = f"/dashboard/plotly-{dashboard.plotly_release()}.min.js"

    packed = client.get(address)
    plain = client.get(address, headers={"Accept-Encoding": "identity"})

    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["cache-control"] == plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-encoding" not in plain.headers
    assert (
        packed.content == plain.content == (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    )
    assert client.get("/dashboard/plotly-0.0.0.min.js").status_code == 404


@pytest.mark.parametrize("path", ["nothing.js", "index.html", "../app.py", "..%2fapp.py", "views", ""])
def test_what_is_no_asset_is_not_found(client: TestClient, path: str) -> None:
    answer = client.get(f"/dashboard/{dashboard.bundle().digest}/{path}")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_packed_asset_is_the_asset() -> None:
    asset = dashboard.bundle().assets["base.css"]

    assert asset.packed is not None
    assert gzip.decompress(asset.packed) == asset.content


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_parses_nothing_as_markup_or_program(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser", text
    )
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert len(text.splitlines()) <= 350


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_imports_modules_that_are_there(path: Path) -> None:
    for name in re.findall(r'^import .* from "([^"]+)";$', path.read_text(encoding="utf-8"), re.MULTILINE):
        assert (path.parent / name).is_file(), name
