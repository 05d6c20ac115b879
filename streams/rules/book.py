"""The rules of all tenants as workers hold them: parsed versions, and by what they watch.

Looked at anew whenever a batch's own transaction shows a newer rules generation, so no batch is judged by old rules.
Versions never change once recorded, so only what is new is fetched and parsed, in slices between which others may run.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final, LiteralString

import structlog

from core.postgres import Connection
from processors.rules.model import RuleVersion
from schemas.rules import Condition, Rule, RuleError, Silence, parse_rule

log = structlog.get_logger()

_SLICE = 10_000
_PARSED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class BookedRule:
    """A rule with its versions in recording order."""

    rule_no: int
    tenant_id: str
    versions: tuple[RuleVersion, ...]

    @property
    def is_silence(self) -> bool:
        """Whether any version watches for silence."""
        return self.least_silence_ms is not None

    @property
    def least_silence_ms(self) -> int | None:
        """The shortest silence that any version fires after; None without any."""
        waits = [rung.condition.after_ms for rung in self.rules if isinstance(rung.condition, Silence)]
        return min(waits, default=None)

    @property
    def ends_silence(self) -> bool:
        """Whether some version may end a silence that another has found."""
        return any(self.silence_ends_ms(rung.severity) for rung in self.rules if isinstance(rung.condition, Silence))

    def silence_ends_ms(self, severity: str) -> list[int]:
        """When versions begin that are not about silence of this severity."""
        return [
            version.effective_from_ms
            for version in self.versions
            if not any(rung.severity == severity and isinstance(rung.condition, Silence) for rung in _rungs(version))
        ]

    @property
    def rules(self) -> list[Rule]:
        """What the versions say, each rung of a ladder as a rule of its own."""
        return [rung for version in self.versions for rung in _rungs(version)]

    @property
    def has_ladder(self) -> bool:
        """Whether episodes of several severities stand beside each other."""
        return any(version.rule is not None and version.rule.ladder for version in self.versions)

    def may_end_with(self, version: RuleVersion) -> bool:
        """Whether what is firing may resolve because the version begins."""
        return version.rule is None or self.has_ladder

    @property
    def watched(self) -> set[tuple[str, str]]:
        """The kinds and ids of all targets that any version has."""
        targets = (version.rule.applies_to for version in self.versions if version.rule is not None)
        return {(target.kind, target.value) for target in targets}


def _rungs(version: RuleVersion) -> Sequence[Rule]:
    return () if version.rule is None else version.rule.rungs


# Looked up for each row, never joined: rules come by the ten thousand in one transaction, and a table that was analysed meanwhile
# counts as empty; the join of two such tables took minutes.
_NEWEST_VERSION: Final = "(SELECT max(v.version) FROM weir.rule_version v WHERE v.rule_no = r.rule_no)"
_TENANT_OF_VERSION: Final = "(SELECT r.tenant_id FROM weir.rule r WHERE r.rule_no = v.rule_no)"


@dataclass(frozen=True, slots=True)
class Scope:
    """A condition on weir.rule r and its values."""

    condition: LiteralString
    values: tuple[object, ...] = ()


EVERY_RULE = Scope("true")
# May find more: a rule that only names it.
ABOUT_SILENCE = Scope(
    "r.rule_no = ANY (ARRAY(SELECT s.rule_no FROM weir.rule_version s WHERE s.document::text LIKE '%%\"silence\"%%'))"
)


def only_rule(rule_no: int) -> Scope:
    """One rule."""
    return Scope("r.rule_no = %s", (rule_no,))


def only_tenants(tenant_ids: Collection[str]) -> Scope:
    """The rules of some tenants."""
    return Scope("r.tenant_id = ANY (%s)", (list(tenant_ids),))


@dataclass(slots=True)
class RuleBook:
    """Rules by tenant, as of one generation."""

    # Which rules are in it; whoever needs few need not hold a hundred thousand.
    scope: Scope = EVERY_RULE
    generation: int = -1
    by_tenant: dict[str, list[BookedRule]] = field(default_factory=dict)
    # What the last refresh found new or changed.
    changed: list[BookedRule] = field(default_factory=list)
    _newest_version: dict[int, int] = field(default_factory=dict)
    _by_number: dict[int, BookedRule] = field(default_factory=dict)
    _by_target: dict[tuple[str, str, str], list[BookedRule]] = field(default_factory=dict)
    # One object for all rules that say the same: most of a hundred thousand do.
    _conditions: dict[Condition, Condition] = field(default_factory=dict)

    def rules_of(self, tenant_id: str) -> Sequence[BookedRule]:
        """The tenant's rules."""
        return self.by_tenant.get(tenant_id, ())

    def watching(self, tenant_id: str, targets: Iterable[tuple[str, str]]) -> list[BookedRule]:
        """The tenant's rules of which some version has one of these targets, each once."""
        found = {
            booked.rule_no: booked
            for kind, value in targets
            for booked in self._by_target.get((tenant_id, kind, value), ())
        }
        return list(found.values())

    def rule(self, rule_no: int) -> BookedRule | None:
        """A rule by its number."""
        return self._by_number.get(rule_no)

    async def refresh(self, connection: Connection) -> bool:
        """Load what changed; True if the generation moved, whether by rules or by what they apply to."""
        cursor = await connection.execute("SELECT rules_generation FROM weir.catalog_generation")
        row = await cursor.fetchone()
        generation = 0 if row is None else int(row[0])
        if generation == self.generation:
            return False
        cursor = await connection.execute(
            f"SELECT r.rule_no, {_NEWEST_VERSION} FROM weir.rule r WHERE {self.scope.condition}",  # noqa: S608 - constants
            self.scope.values,
        )
        newest: dict[int, int] = {number: version for number, version in await cursor.fetchall() if version is not None}
        known = self._newest_version
        stale = sorted(number for number, version in newest.items() if known.get(number) != version)
        self.changed = []
        for first in range(0, len(stale), _SLICE):
            self.changed += await self._load(connection, stale[first : first + _SLICE])
        self._by_number |= {booked.rule_no: booked for booked in self.changed}
        self._newest_version = newest
        if self.changed:
            self._sort_rules()
        self.generation = generation
        return True

    async def _load(self, connection: Connection, rule_nos: list[int]) -> list[BookedRule]:
        cursor = await connection.execute(
            f"SELECT v.rule_no, {_TENANT_OF_VERSION}, (extract(epoch FROM v.effective_from) * 1000)::bigint, v.document"  # noqa: S608 - constants
            " FROM weir.rule_version v WHERE v.rule_no = ANY (%s) ORDER BY v.rule_no, v.version",
            (rule_nos,),
        )
        found = []
        for (rule_no, tenant_id), rows in groupby(await cursor.fetchall(), lambda row: (row[0], row[1])):
            versions = [self._parsed(rule_no, effective_ms, document) for _, _, effective_ms, document in rows]
            found.append(BookedRule(rule_no, tenant_id, tuple(one for one in versions if one is not None)))
            if len(found) % _PARSED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return found

    def _parsed(self, rule_no: int, effective_ms: int, document: object) -> RuleVersion | None:
        """One bad rule never stops another: it is left out and named."""
        if document is None:
            return RuleVersion(effective_ms, None)
        try:
            rule = parse_rule(document)
        except RuleError as exc:
            log.warning("rule.unusable", rule_no=rule_no, problem=str(exc))
            return None
        ladder = tuple(replace(rung, condition=self._one(rung.condition)) for rung in rule.ladder)
        return RuleVersion(effective_ms, replace(rule, condition=self._one(rule.condition), ladder=ladder))

    def _one(self, condition: Condition) -> Condition:
        return self._conditions.setdefault(condition, condition)

    def _sort_rules(self) -> None:
        by_tenant, by_target = defaultdict(list), defaultdict(list)
        for booked in self._by_number.values():
            by_tenant[booked.tenant_id].append(booked)
            for kind, value in booked.watched:
                by_target[booked.tenant_id, kind, value].append(booked)
        self.by_tenant, self._by_target = dict(by_tenant), dict(by_target)
