"""The stand-in over HTTP: the routes of Stripe's API that Weir uses, hosted pages, and `/_fake/…` to steer it.

Run it: `python -m ops.fake_stripe.server --port 8500 --file state.sqlite --key sk_test_… --webhook-url … --webhook-secret …`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import fields
from functools import partial
from typing import Any, Final

from aiohttp import web

from ops.fake_stripe import subscriptions
from ops.fake_stripe.faults import Fault, Trouble
from ops.fake_stripe.objects import required
from ops.fake_stripe.params import Refused, check, parse_form
from ops.fake_stripe.service import FakeStripe, routes
from ops.fake_stripe.store import Object
from ops.fake_stripe.webhooks import Manners

_IDEMPOTENT_S: Final = 24 * 3600
_BAD_REQUEST, _SERVER_ERROR = 400, 500

Answer = tuple[int, Object]


def make_app(fake: FakeStripe) -> web.Application:
    """The application; its background work lives as long as it does."""
    table = routes(fake)

    async def api(request: web.Request) -> web.StreamResponse:
        trouble = fake.faults.take(request.path)
        if trouble in (Trouble.ERROR_BEFORE, Trouble.RATE_LIMIT, Trouble.CONFLICT):
            return _reply(*_TROUBLES[trouble])
        status, body = await _answer(fake, table, request)
        if trouble is Trouble.LOST_REPLY and request.transport is not None:  # None: the client is gone already
            request.transport.abort()
        return _reply(*_TROUBLES[trouble]) if trouble is Trouble.ERROR_AFTER else _reply(status, body)

    app = web.Application()
    app.router.add_route("*", "/v1/{rest:.+}", api)
    app.router.add_get("/pay/{session}", partial(_pay, fake))
    app.router.add_post("/pay/{session}", partial(_pay, fake))
    app.router.add_get("/portal/{session}", partial(_portal, fake))
    app.router.add_post("/_fake/{what}", partial(_steer, fake))
    app.cleanup_ctx.append(lambda _app: _background(fake))
    return app


async def _background(fake: FakeStripe) -> Any:  # noqa: ANN401 - an async generator, as aiohttp wants it
    tasks = [asyncio.create_task(fake.deliveries.run()), asyncio.create_task(fake.tick())]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _error(status: int, message: str, kind: str = "invalid_request_error", **more: str | None) -> Answer:
    return status, {"error": {"type": kind, "message": message, **{k: v for k, v in more.items() if v is not None}}}


_TROUBLES: Final = {
    Trouble.ERROR_BEFORE: _error(500, "An unknown error occurred", "api_error"),
    Trouble.ERROR_AFTER: _error(500, "An unknown error occurred", "api_error"),
    Trouble.RATE_LIMIT: _error(429, "Request rate limit exceeded.", code="rate_limit"),
    Trouble.CONFLICT: _error(409, "Another request is being processed.", "idempotency_error"),
}


def _reply(status: int, body: Object) -> web.Response:
    # As the real service: only the server's own errors are worth a retry.
    headers = {"stripe-should-retry": "true" if status >= _SERVER_ERROR else "false"} if status >= _BAD_REQUEST else {}
    return web.json_response(body, status=status, headers=headers)


async def _answer(fake: FakeStripe, table: list[Any], request: web.Request) -> Answer:
    """The answer, the same again for an idempotency key that was seen within 24 h."""
    if request.headers.get("Authorization") != f"Bearer {fake.key}":
        return _error(401, "Invalid API Key provided")
    text = await request.text() if request.method == "POST" else request.query_string
    key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
    told = f"{request.method} {request.path} {text}"
    if key is not None:
        row = fake.store.db.execute(
            "SELECT request, status, body FROM answer WHERE key = ? AND received > ?",
            (key, fake.store.now() - _IDEMPOTENT_S),
        ).fetchone()
        if row is not None and row[0] != told:
            return _error(
                400, "Keys for idempotent requests can only be used with the same parameters.", "idempotency_error"
            )
        if row is not None:
            return row[1], json.loads(row[2])
    status, body = await _do(fake, table, request, text)
    if key is not None and status != 429:  # noqa: PLR2004 - what was not begun is not remembered
        fake.store.db.execute(
            "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?)",
            (key, fake.store.now(), told, status, json.dumps(body)),
        )
    return status, body


async def _do(fake: FakeStripe, table: list[Any], request: web.Request, text: str) -> Answer:
    for method, path, shape, act in table:
        match = path.fullmatch(request.path)
        if match is None or method != request.method:
            continue
        try:
            values = check(shape, parse_form(text))
            if request.path == "/v1/billing/meter_events":
                return 200, await fake.metered(values, act)
            return 200, act(values, *match.groups())
        except Refused as error:
            return _error(error.status, error.message, code=error.code, param=error.param)
    return _error(404, f"Unrecognized request URL ({request.method}: {request.path}).")


async def _pay(fake: FakeStripe, request: web.Request) -> web.StreamResponse:
    """The hosted page of a checkout: a button, and back to where it was opened from."""
    session = required(fake.store, "checkout.session", request.match_info["session"])
    if request.method == "POST":
        for kind, thing in subscriptions.complete_checkout(fake.store, session["id"]):
            fake.deliveries.emit(kind, thing)
        raise web.HTTPSeeOther(session.get("success_url", "/"))
    page = "<!doctype html><title>Stand-in checkout</title><form method=post><button>Pay (nothing is charged)</button></form>"
    return web.Response(text=page, content_type="text/html")


async def _portal(fake: FakeStripe, request: web.Request) -> web.StreamResponse:
    """The hosted page of a customer: what is subscribed."""
    session = required(fake.store, "billing_portal.session", request.match_info["session"])
    own = [one for one in fake.store.all("subscription") if one["customer"] == session["customer"]]
    rows = "".join(f"<li>{one['id']}: {one['status']}</li>" for one in own)
    page = f"<!doctype html><title>Stand-in portal</title><h1>Subscriptions</h1><ul>{rows}</ul>"
    return web.Response(text=page, content_type="text/html")


async def _steer(fake: FakeStripe, request: web.Request) -> web.StreamResponse:
    """`clock`, `faults`, `behaviour`, `webhooks`, `status`: JSON of the fields to change."""
    what, wanted = request.match_info["what"], await request.json()
    if what == "clock":
        fake.store.advance(wanted["advance_s"])
        fake.close_periods()
    elif what == "faults":
        fake.faults.clear()
        for one in wanted["faults"]:
            fake.faults.add(Fault(**{**one, "trouble": Trouble(one["trouble"])}))
    elif what == "status":
        subscription = required(fake.store, "subscription", wanted["subscription"])
        fake.store.put("subscription", subscription | {"status": wanted["status"]})
        fake.deliveries.emit("customer.subscription.updated", fake.store.find(subscription["id"]) or {})
    else:
        target = fake.behaviour if what == "behaviour" else fake.deliveries.manners
        known = {each.name for each in fields(target)}
        for name, value in wanted.items():
            if name not in known:
                raise web.HTTPBadRequest(text=f"{name} is none of {sorted(known)}")
            setattr(target, name, value)
    return web.json_response({"now": fake.store.now()})


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", default=":memory:")
    parser.add_argument("--key", required=True)
    parser.add_argument("--webhook-url", default="")
    parser.add_argument("--webhook-secret", default="")
    wanted = parser.parse_args()
    fake = FakeStripe(wanted.file, wanted.key, Manners(url=wanted.webhook_url, secret=wanted.webhook_secret))
    fake.public_url = f"http://127.0.0.1:{wanted.port}"
    web.run_app(make_app(fake), host="127.0.0.1", port=wanted.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
