"""`weir dead-letters`: what was refused, why, and a second try."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from core.clock import now_ms
from core.postgres import explain_connection_error
from core.settings import load_settings
from schemas.errors import Misconfigured, Reason, Transient
from sinks.replay import ReplayReport, open_producer, replay
from sinks.timescale.dead_letters import (
    DeadLetter,
    Extent,
    Filter,
    Original,
    Session,
    find,
    list_letters,
    measure,
    open_session,
)

_DURATION = re.compile(r"(\d+)(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PREVIEW_BYTES = 1024
_SHOWN_REFUSALS = 10

TenantOption = Annotated[str | None, typer.Option("--tenant", help="Of this tenant.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="Of this device, as the record claims it.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Refused for this reason.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Refused since a time (2026-11-22T20:00:00Z) or for a duration (90m, 7d).")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="List, show and replay what was refused.")
    group.command("list")(list_command)
    group.command("show")(show_command)
    group.command("replay")(replay_command)
    app.add_typer(group, name="dead-letters")


def list_command(
    tenant: TenantOption = None,
    device: DeviceOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List what was refused, the newest first."""
    which = Filter(tenant_id=tenant, device_id=device, reason=known(reason), since=parse_since(since, now_ms()))
    with _session() as session:
        letters = list_letters(session, which, limit)
    if as_json:
        for letter in letters:
            print(json.dumps(_as_json(letter)))
    else:
        _print_table(letters, limit)


def show_command(
    dead_letter_id: Annotated[int, typer.Argument(help="Its number in the list.")],
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object, bytes in base64.")] = False,
) -> None:
    """Show one with its coordinates, headers and bytes."""
    with _session() as session:
        found = find(session, dead_letter_id)
    if found is None:
        msg = f"there is no dead letter {dead_letter_id}; `weir dead-letters list` shows those there are"
        raise Misconfigured(msg)
    letter, original = found
    fields = _as_json(letter) | _original_fields(original)
    if as_json:
        print(json.dumps(fields))
        return
    for name, value in fields.items():
        if name not in {"key", "value", "headers"}:
            print(f"{name + ':':<20}{'-' if value is None else value}")
    for name, header in original.headers:
        print(f"{'header:':<20}{name} = {preview(header)}")
    print(f"{'key:':<20}{preview(original.key)}")
    print(f"{'value:':<20}{preview(original.value)}")


def replay_command(
    ids: Annotated[list[int] | None, typer.Argument(help="Numbers of dead letters.")] = None,
    tenant: TenantOption = None,
    device: DeviceOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    all_matching: Annotated[
        bool, typer.Option(help="Everything that the options match, not only the numbers.")
    ] = False,
    again: Annotated[bool, typer.Option(help="Also what was replayed before.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Send refused records to their topics once more, as they came; each record once."""
    if bool(ids) == all_matching:
        msg = "give either the numbers of dead letters, or --all-matching with options that choose them"
        raise Misconfigured(msg)
    settings = load_settings()
    since_time = parse_since(since, now_ms())
    which = Filter(tuple(ids or ()), tenant, device, known(reason), since_time, waiting_only=not again)
    with _session() as session:
        extent = measure(session, which)
        _tell_skipped(session, which, extent)
        if extent.records == 0:
            print("nothing to replay")
            return
        if all_matching and not yes:
            _confirm(extent)
        with closing(open_producer(settings.kafka_bootstrap)) as producer:
            report = replay(session, producer, replace(which, up_to_id=extent.up_to_id))
    _print_report(report, extent)


@contextmanager
def _session() -> Iterator[Session]:
    url = load_settings().database_url.get_secret_value()
    with closing(open_session(url)) as session:
        try:
            yield session
        except psycopg.OperationalError as exc:
            raise Transient(explain_connection_error(exc, url)) from exc


def known(reason: str | None) -> str | None:
    """A reason that there is, or none.

    Raises:
        Misconfigured: nothing is ever refused for it.
    """
    if reason is not None and reason not in set(Reason):
        msg = f"nothing is refused for the reason {reason!r}; the reasons are {', '.join(sorted(Reason))}"
        raise Misconfigured(msg)
    return reason


def parse_since(text: str | None, now_epoch_ms: int) -> datetime | None:
    """A moment out of a time with an offset, or a duration back from now.

    Raises:
        Misconfigured: it is neither.
    """
    if text is None:
        return None
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        back = sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
        return datetime.fromtimestamp(now_epoch_ms / 1000, UTC) - back
    try:
        moment: datetime | None = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        msg = f"--since {text} is neither a time with an offset (2026-11-22T20:00:00Z) nor a duration (90m, 7d)"
        raise Misconfigured(msg)
    return moment


def preview(content: bytes | None) -> str:
    """The first KiB: text where it is printable text, else hexadecimal."""
    if content is None:
        return "-"
    head = content[:_PREVIEW_BYTES]
    # A character cut at the edge must not turn a text into hexadecimal.
    text = head.decode("utf-8", "ignore" if len(content) > len(head) else "replace")
    shown = text if text.replace("\n", " ").replace("\t", " ").isprintable() and "\ufffd" not in text else head.hex(" ")
    rest = len(content) - len(head)
    return f"{shown} … and {rest} bytes more" if rest else shown


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if isinstance(value, datetime)
        else value
        for name, value in asdict(letter).items()
    }


def _original_fields(original: Original) -> dict[str, Any]:
    return {
        "topic_identity": original.topic_identity,
        "broker_timestamp_ms": original.broker_timestamp_ms,
        "key": _base64(original.key),
        "value": _base64(original.value),
        "headers": [[name, _base64(value)] for name, value in original.headers],
    }


def _base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _print_table(letters: list[DeadLetter], limit: int) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("number", "refused at", "reason", "tenant", "device", "sensor", "where", "replayed", "detail"):
        table.add_column(heading, no_wrap=heading != "detail")
    for letter in letters:
        fields = _as_json(letter)
        where = f"{letter.topic}/{letter.partition}@{letter.offset}"
        table.add_row(
            str(letter.dead_letter_id),
            fields["refused_at"],
            letter.reason,
            letter.tenant_id or "-",
            letter.device_id or "-",
            letter.sensor or "-",
            where if letter.index is None else f"{where}#{letter.index}",
            fields["replayed_at"] or "-",
            letter.detail,
        )
    # A pipe has no width to fit into; fold nothing there.
    Console(width=None if sys.stdout.isatty() else 1_000, highlight=False, markup=False).print(table)
    if len(letters) == limit:
        print(f"only the newest {limit}; --limit shows more")


def _tell_skipped(session: Session, which: Filter, extent: Extent) -> None:
    """Say which of the numbers asked for are not replayed."""
    if not which.ids:
        return
    known = {letter.dead_letter_id for letter in list_letters(session, Filter(ids=which.ids), len(which.ids))}
    missing = sorted(set(which.ids) - known)
    if missing:
        msg = f"there is no dead letter {', '.join(map(str, missing))}; `weir dead-letters list` shows those there are"
        raise Misconfigured(msg)
    if extent.letters < len(known):
        print(f"{len(known) - extent.letters} left out: replayed before (--again replays them) or not matched")


def _confirm(extent: Extent) -> None:
    question = f"send {extent.records} record(s), of {extent.letters} dead letter(s), to their topics once more?"
    if not sys.stdin.isatty():
        msg = f"{question} Nobody can answer here; pass --yes"
        raise Misconfigured(msg)
    typer.confirm(question, abort=True)


def _print_report(report: ReplayReport, extent: Extent) -> None:
    print(f"replayed {report.records} of {extent.records} record(s), {report.letters} dead letter(s) marked")
    for original, why in report.refused[:_SHOWN_REFUSALS]:
        print(f"not taken: {original.topic}/{original.partition}@{original.offset}: {why}", file=sys.stderr)
    if report.interrupted:
        msg = f"{report.interrupted}; run the command again when the broker answers: what was sent is marked"
        raise Transient(msg)
    if report.refused:
        msg = f"{len(report.refused)} record(s) could not be sent"
        raise Transient(msg)
