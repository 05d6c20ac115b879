"""The shapes of signing in, users, API keys and the audit log, as OpenAPI tells them, with an example each; see `api.models`."""

from __future__ import annotations

from typing import Any, Final, Literal

from api.models import Model, Responses, answer, problems

RoleName = Literal["owner", "manager", "staff", "viewer", "inspector"]
ScopeName = Literal["read", "write", "admin"]


class Tokens(Model):
    """What somebody who signed in works with."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"]
    expires_in: int


class Myself(Model):
    """Whose credential it is, and what it may do."""

    kind: Literal["user", "api_key"]
    subject_id: str
    tenant_id: str
    permissions: list[str]
    email: str | None = None
    name: str | None = None
    role: RoleName | None = None


class Accepted202(Model):
    """It was taken on."""

    status: Literal["accepted"]


class User(Model):
    """Somebody who may sign in."""

    user_id: str
    email: str
    name: str
    role: RoleName
    active: bool
    created_at: str
    updated_at: str
    last_login_at: str | None = None


class UserPage(Model):
    """Users in the order of their ids."""

    items: list[User]
    next: str | None


class Invitation(Model):
    """An invitation that waits to be accepted."""

    invitation_id: str
    email: str
    name: str
    role: RoleName
    invited_by: str
    created_at: str
    expires_at: str


class InvitationPage(Model):
    """Invitations in the order of their ids."""

    items: list[Invitation]
    next: str | None


class ApiKey(Model):
    """A usable key; its text is shown when it is made, never again."""

    api_key_id: str
    name: str
    last_four: str
    scopes: list[ScopeName]
    created_at: str
    expires_at: str | None = None


class CreatedApiKey(ApiKey):
    """A key that was just made."""

    api_key: str


class RotatedApiKey(CreatedApiKey):
    """A key's successor."""

    replaces: str
    replaced_until: str


class ApiKeyPage(Model):
    """Keys in the order of their ids."""

    items: list[ApiKey]
    next: str | None


class AuditEntry(Model):
    """One change: who, when, what, and from what to what; of secrets only that they changed."""

    entry_id: str
    at: str
    actor: str
    action: Literal["created", "changed", "removed"]
    kind: str
    subject_id: str
    changes: dict[str, Any]


class AuditPage(Model):
    """Changes, newest first."""

    items: list[AuditEntry]
    next: str | None


def _object(required: tuple[str, ...], **properties: dict[str, object]) -> dict[str, object]:
    """A body's schema; nothing beyond these fields."""
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


_TEXT: Final[dict[str, object]] = {"type": "string", "minLength": 1, "maxLength": 200}
_EMAIL: Final[dict[str, object]] = {"type": "string", "format": "email", "maxLength": 254}
_PASSWORD: Final[dict[str, object]] = {"type": "string", "minLength": 8, "maxLength": 256}
_TOKEN: Final[dict[str, object]] = {"type": "string", "maxLength": 1000}
_ROLE: Final[dict[str, object]] = {"enum": ["owner", "manager", "staff", "viewer", "inspector"]}
_SCOPES: Final[dict[str, object]] = {"type": "array", "minItems": 1, "items": {"enum": ["read", "write", "admin"]}}
_TIME: Final[dict[str, object]] = {"type": ["string", "null"], "format": "date-time"}

LOGIN_SCHEMA: Final = _object(("email", "password"), email=_EMAIL, password={"type": "string", "maxLength": 1000})
LOGIN_EXAMPLE: Final = {"email": "anna@kitchen.example", "password": "correct horse battery staple"}
REFRESH_SCHEMA: Final = _object(("refresh_token",), refresh_token=_TOKEN)
REFRESH_EXAMPLE: Final = {"refresh_token": "weir_refresh_…"}
PASSWORD_SCHEMA: Final = _object(("old_password", "new_password"), old_password=_TOKEN, new_password=_PASSWORD)
PASSWORD_EXAMPLE: Final = {"old_password": "correct horse battery staple", "new_password": "a better one"}
RESET_SCHEMA: Final = _object(("email",), email=_EMAIL)
RESET_EXAMPLE: Final = {"email": "anna@kitchen.example"}
CONFIRM_SCHEMA: Final = _object(("token", "password"), token=_TOKEN, password=_PASSWORD)
CONFIRM_EXAMPLE: Final = {"token": "weir_reset_…", "password": "correct horse battery staple"}
INVITE_SCHEMA: Final = _object(("email", "role"), email=_EMAIL, role=_ROLE, name=_TEXT)
INVITE_EXAMPLE: Final = {"email": "ben@kitchen.example", "role": "staff", "name": "Ben"}
ACCEPT_SCHEMA: Final = _object(("token", "password"), token=_TOKEN, password=_PASSWORD, name=_TEXT)
ACCEPT_EXAMPLE: Final = {"token": "weir_invite_…", "password": "correct horse battery staple"}
USER_SCHEMA: Final = _object(("email", "role"), email=_EMAIL, role=_ROLE, name=_TEXT, password=_PASSWORD)
USER_PATCH_SCHEMA: Final = _object((), name=_TEXT, role=_ROLE)
KEY_SCHEMA: Final = _object(("name", "scopes"), name=_TEXT, scopes=_SCOPES, expires_at=_TIME)
KEY_EXAMPLE: Final = {"name": "reporting", "scopes": ["read"], "expires_at": "2027-11-22T20:00:00.000Z"}
KEY_PATCH_SCHEMA: Final = _object((), name=_TEXT, scopes=_SCOPES, expires_at=_TIME)
ROTATE_SCHEMA: Final = _object((), overlap={"type": "string", "maxLength": 64})
ROTATE_EXAMPLE: Final = {"overlap": "24h"}

_TOKENS: Final = {
    "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJpc3MiOiJ3ZWlyIn0.c2lnbmF0dXJl",
    "refresh_token": "weir_refresh_…",
    "token_type": "Bearer",
    "expires_in": 900,
}
_USER: Final = {
    "user_id": "usr_4f6e0b7d2c",
    "email": "anna@kitchen.example",
    "name": "Anna",
    "role": "owner",
    "active": True,
    "created_at": "2026-11-01T08:00:00.000Z",
    "updated_at": "2026-11-01T08:00:00.000Z",
    "last_login_at": "2026-11-22T20:00:00.000Z",
}
_INVITATION: Final = {
    "invitation_id": "inv_4f6e0b7d2c",
    **INVITE_EXAMPLE,
    "invited_by": "usr_4f6e0b7d2c",
    "created_at": "2026-11-22T20:00:00.000Z",
    "expires_at": "2026-11-29T20:00:00.000Z",
}
_KEY: Final = {
    "api_key_id": "key_91c3f0a7b2",
    "last_four": "Q7fz",
    "created_at": "2026-11-22T20:00:00.000Z",
    **KEY_EXAMPLE,
}
_KEY_TEXT: Final = "romo_live_…"
_ENTRY: Final = {
    "entry_id": "4711",
    "at": "2026-11-22T20:00:00.000Z",
    "actor": "usr_4f6e0b7d2c",
    "action": "changed",
    "kind": "user",
    "subject_id": "usr_b07a91c3f0",
    "changes": {"role": {"from": "viewer", "to": "staff"}},
}
_NEXT: Final = "kq1zZW5fNGY2ZTBiN2QyYy0"
_PUBLIC: Final = problems(400, 413, 422, 429, 503)
_READ: Final = problems(401, 403, 422, 429, 503)
_WRITE: Final = _READ | problems(400, 413)
_GONE: Final[Responses] = {204: {"description": "Done."}}

SIGNED_IN: Final[Responses] = {
    200: answer(Tokens, "Signed in.", tokens=_TOKENS),
    **_PUBLIC,
    **problems(401),
}
INVITATION_ACCEPTED: Final[Responses] = {**SIGNED_IN, **problems(409)}
SIGNED_OUT: Final[Responses] = {**_GONE, **_READ}
PASSWORD_CHANGED: Final[Responses] = {**_GONE, **_WRITE}
MYSELF: Final[Responses] = {
    200: answer(
        Myself,
        "Whose credential it is.",
        user={
            "kind": "user",
            "subject_id": "usr_4f6e0b7d2c",
            "tenant_id": "ten_0a1b2c",
            "permissions": ["alerts:read", "alerts:write"],
            "email": "anna@kitchen.example",
            "name": "Anna",
            "role": "staff",
        },
        api_key={
            "kind": "api_key",
            "subject_id": "key_91c3f0a7b2",
            "tenant_id": "ten_0a1b2c",
            "permissions": ["alerts:read"],
        },
    ),
    **_READ,
}
RESET_ASKED: Final[Responses] = {
    202: answer(Accepted202, "If somebody has this address, a message goes there.", accepted={"status": "accepted"}),
    **_PUBLIC,
}
RESET_DONE: Final[Responses] = {**_GONE, **_PUBLIC}
INVITED: Final[Responses] = {
    201: answer(Invitation, "A message goes there.", invitation=_INVITATION),
    **_WRITE,
} | problems(409)
INVITATIONS_FOUND: Final[Responses] = {
    200: answer(InvitationPage, "A page of invitations.", page={"items": [_INVITATION], "next": _NEXT}),
    **_READ,
}
REMOVED: Final[Responses] = {**_GONE, **_READ, **problems(404)}
USER_REMOVED: Final[Responses] = REMOVED | problems(409)
USER_CREATED: Final[Responses] = {201: answer(User, "The user exists.", user=_USER), **_WRITE, **problems(409)}
USER_FOUND: Final[Responses] = {200: answer(User, "The user.", user=_USER), **_READ, **problems(404)}
USER_CHANGED: Final[Responses] = {**USER_FOUND, **_WRITE, **problems(409)}
USERS_FOUND: Final[Responses] = {
    200: answer(UserPage, "A page of users.", page={"items": [_USER], "next": _NEXT}),
    **_READ,
}
KEY_CREATED: Final[Responses] = {
    201: answer(CreatedApiKey, "The key, shown this once.", key=_KEY | {"api_key": _KEY_TEXT}),
    **_WRITE,
}
KEY_ROTATED: Final[Responses] = {
    201: answer(
        RotatedApiKey,
        "The successor, shown this once.",
        key=_KEY | {"api_key": _KEY_TEXT, "replaces": "key_0a7b2c91f3", "replaced_until": "2026-11-23T20:00:00.000Z"},
    ),
    **_WRITE,
    **problems(404),
}
KEY_FOUND: Final[Responses] = {200: answer(ApiKey, "The key.", key=_KEY), **_READ, **problems(404)}
KEY_CHANGED: Final[Responses] = {**KEY_FOUND, **_WRITE}
KEYS_FOUND: Final[Responses] = {
    200: answer(ApiKeyPage, "A page of keys.", page={"items": [_KEY], "next": _NEXT}),
    **_READ,
}
AUDIT_FOUND: Final[Responses] = {
    200: answer(AuditPage, "A page of changes.", page={"items": [_ENTRY], "next": _NEXT}),
    **_READ,
}
