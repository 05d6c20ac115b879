"""Objects of any kind: made from what they are told to be, found or refused."""

from __future__ import annotations

from ops.fake_stripe.params import Refused
from ops.fake_stripe.store import Object, Store


def plain(store: Store, kind: str, prefix: str, values: Object) -> Object:
    """An object that is what it was told to be."""
    body = {"id": store.new_id(prefix), "object": kind, "created": int(store.now()), "livemode": False, "metadata": {}}
    return store.put(kind, {**body, **values})


def required(store: Store, kind: str, object_id: str) -> Object:
    """An object of a kind.

    Raises:
        Refused: 404.
    """
    found = store.find(object_id)
    if found is None or found.get("object") != kind:
        raise Refused(404, f"No such {kind}: '{object_id}'", code="resource_missing", param="id")
    return found
