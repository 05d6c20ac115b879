"""What `weir doctor` makes of what it saw: pure judgements, one sentence each, with the remedy where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.kafka import TopicIdentity
from core.postgres import DatabaseRole
from ops.system_libraries import remedy

_MIN_MAJOR = 16
_MIN_KEY_CHARS = 32
_MAX_SKEW_MS = 1_000
_FRESH_S = 10.0
_GIB = 1 << 30
# About two hundred scans of a phone's sixty to a hundred and fifty frames, or one of the largest files.
_LEAST_FREE_BYTES = 2 * _GIB


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    ok: bool
    subject: str
    sentence: str

    def __str__(self) -> str:
        """The line that is printed."""
        return f"{'ok ' if self.ok else 'BAD'}  {self.subject:<10} {self.sentence}"


@dataclass(frozen=True, slots=True)
class Stand:
    """A stored position."""

    topic: str
    partition: int
    next_offset: int
    identity: str


def good(subject: str, sentence: str) -> Finding:
    """Nothing to do."""
    return Finding(True, subject, sentence)


def bad(subject: str, sentence: str) -> Finding:
    """Something to do."""
    return Finding(False, subject, sentence)


def judge_secret_key(secret_key: str) -> Finding:
    """Whether device secrets can be sealed."""
    if not secret_key:
        return bad("settings", "WEIR_SECRET_KEY is not set; set it to a random text of 32 characters or more")
    if len(secret_key) < _MIN_KEY_CHARS:
        return bad("settings", f"WEIR_SECRET_KEY has {len(secret_key)} characters; expected at least {_MIN_KEY_CHARS}")
    return good("settings", "WEIR_SECRET_KEY is set")


def judge_open3d(error: str | None, packages: Sequence[str]) -> Finding:
    """Whether scans can be processed on this machine.

    Args:
        error: why `import open3d` fails, empty if it does not; None where Open3D is not installed.
        packages: those of the system that are missing.
    """
    if error is None:
        return good("scans", "Open3D is not installed (it has no wheel for some machines); meshes are not made here")
    if not error:
        return good("scans", "Open3D can be loaded")
    if packages:
        return bad("scans", f"Open3D cannot be loaded ({error}); run, as root: {remedy(packages)}")
    return bad("scans", f"Open3D cannot be loaded ({error}); run `make setup`")


def judge_objects(url: str, free_bytes: int | None) -> Finding:
    """Whether an object store that works has room for the next scans.

    Args:
        url: as the settings name it.
        free_bytes: on its disk; None for a service, which does not say.
    """
    text = f"{url} takes, gives and removes objects"
    if free_bytes is None:
        return good("objects", text)
    text += f", {free_bytes / _GIB:.1f} GiB of its disk are free"
    if free_bytes < _LEAST_FREE_BYTES:
        return bad("objects", f"{text}; expected {_LEAST_FREE_BYTES // _GIB}: make room, or move it to a larger disk")
    return good("objects", text)


def objects_silent(url: str, seconds: float) -> str:
    """What to do about an object store that does not answer."""
    return f"{url} has not answered for {seconds:.0f} s; check WEIR_OBJECTS_ENDPOINT, or the disk"


def judge_server(version: int, extension: str | None, where: str) -> Finding:
    """Whether the database server is recent enough.

    Args:
        version: as PostgreSQL numbers it, such as 180006.
        extension: the version of TimescaleDB in this database.
        where: host, port and database.
    """
    text = f"PostgreSQL {version // 10_000}.{version % 10_000}"
    text += f" with TimescaleDB {extension}" if extension else " without TimescaleDB"
    if version // 10_000 < _MIN_MAJOR:
        return bad("database", f"{text} answers at {where}; expected PostgreSQL {_MIN_MAJOR} or newer: upgrade it")
    return good("database", f"{text} answers at {where}")


def judge_roles(login: str, roles: Sequence[DatabaseRole]) -> Finding:
    """Whether the login may work as anything."""
    if not roles:
        wanted = DatabaseRole.WRITER.value
        return bad(
            "login", f"{login} is a member of no role of Weir's; run `weir migrate`, then GRANT {wanted} TO {login}"
        )
    return good("login", f"{login} may work as {', '.join(role.value for role in roles)}")


def judge_clock(skew_ms: float, uncertain_ms: float) -> Finding:
    """Whether this machine and the database agree on the time.

    Args:
        skew_ms: the database's time minus this machine's.
        uncertain_ms: half of how long asking took.
    """
    text = f"the database's clock is {skew_ms:+.0f} ms from this machine's (± {uncertain_ms:.0f} ms)"
    if abs(skew_ms) - uncertain_ms > _MAX_SKEW_MS:
        return bad("clock", f"{text}; expected less than {_MAX_SKEW_MS}: set both by NTP")
    return good("clock", text)


def judge_topics(wanted: Sequence[str], found: Mapping[str, TopicIdentity]) -> Finding:
    """Whether the topics exist."""
    missing = [name for name in wanted if name not in found]
    if missing:
        return bad(
            "topics", f"{', '.join(missing)} are missing; start `weir worker`, which makes them, or make them yourself"
        )
    return good("topics", ", ".join(f"{name} ({found[name].partitions})" for name in wanted) + " exist (partitions)")


def judge_positions(
    stands: Sequence[Stand], topic: TopicIdentity | None, ends: Mapping[int, int], max_lag: int
) -> list[Finding]:
    """How far the stored positions are behind the end of the readings topic, and whether they fit it.

    Args:
        stands: positions of this topic.
        topic: as the broker knows it; None if it does not.
        ends: end offset by partition.
        max_lag: records that a partition may be behind.
    """
    if topic is None:
        return []
    if not stands:
        return [bad("positions", f"no worker ever took up {topic.name}; start `weir worker`")]
    findings = [_judge_position(stand, topic, ends) for stand in sorted(stands, key=lambda stand: stand.partition)]
    current = [stand for stand in stands if stand.identity == topic.identity and stand.partition in ends]
    lags = {stand.partition: ends[stand.partition] - stand.next_offset for stand in current}
    return [finding for finding in findings if finding is not None] + [_judge_lag(topic.name, lags, max_lag)]


def _judge_position(stand: Stand, topic: TopicIdentity, ends: Mapping[int, int]) -> Finding | None:
    where = f"partition {stand.partition} of {topic.name}"
    if stand.identity != topic.identity:
        return bad("positions", f"{where}: the topic was made anew since; start `weir worker`, which begins it at 0")
    end = ends.get(stand.partition)
    if end is not None and stand.next_offset > end:
        lost = stand.next_offset - end
        return bad("positions", f"{where}: the log ends {lost} records before the position; restore the broker's data")
    return None


def _judge_lag(topic: str, lags: Mapping[int, int], max_lag: int) -> Finding:
    if not lags:
        return bad("lag", f"unknown: no position fits {topic}; start `weir worker`")
    worst = max(lags, key=lambda partition: lags[partition])
    text = f"{sum(lags.values())} records are waiting in {len(lags)} partitions of {topic}, most of them {lags[worst]}"
    if lags[worst] > max_lag:
        return bad("lag", f"{text} in partition {worst}; expected at most {max_lag}: start more workers")
    return good("lag", f"{text} in partition {worst}")


def judge_workers(ages_s: Mapping[str, float]) -> Finding:
    """Whether a worker has reported lately.

    Args:
        ages_s: seconds since the last report, by worker.
    """
    fresh = sorted(name for name, age_s in ages_s.items() if age_s <= _FRESH_S)
    if not fresh:
        return bad("workers", f"none has reported for {_FRESH_S:.0f} s; start `weir worker`")
    return good("workers", f"{', '.join(fresh)} reported within {_FRESH_S:.0f} s")


def judge_alarms(alarms: Mapping[str, int]) -> Finding:
    """Whether something waits for the people who run the system."""
    if alarms:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(alarms.items()))
        return bad("alarms", f"open: {listed}; `weir alarms list` says what to look at")
    return good("alarms", "none is open")
