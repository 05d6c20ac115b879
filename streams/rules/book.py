"""The rules of all tenants as workers hold them: parsed versions, and which sensors each could be for.

Loaded anew whenever a batch's own transaction shows a newer rules generation, so no batch is judged by old rules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from core.postgres import Connection
from processors.rules.model import RuleVersion
from schemas.rules import RuleError, Silence, parse_rule

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BookedRule:
    """A rule with its versions in recording order."""

    rule_no: int
    tenant_id: str
    versions: tuple[RuleVersion, ...]

    @property
    def is_silence(self) -> bool:
        """Whether any version watches for silence."""
        return any(
            version.rule is not None and isinstance(version.rule.condition, Silence) for version in self.versions
        )


@dataclass(slots=True)
class RuleBook:
    """Rules by tenant, as of one generation."""

    generation: int = -1
    # The catalogue's generation at the last look, which every batch knows without asking.
    seen_generation: int = -1
    by_tenant: dict[str, list[BookedRule]] = field(default_factory=dict)

    def rules_of(self, tenant_id: str) -> Sequence[BookedRule]:
        """The tenant's rules."""
        return self.by_tenant.get(tenant_id, ())

    async def refresh(self, connection: Connection) -> bool:
        """Load what changed; True if anything did."""
        cursor = await connection.execute("SELECT rules_generation FROM weir.catalog_generation")
        row = await cursor.fetchone()
        generation = 0 if row is None else int(row[0])
        if generation == self.generation:
            return False
        rows = await connection.execute(
            "SELECT r.rule_no, r.tenant_id, (extract(epoch FROM v.effective_from) * 1000)::bigint, v.document"
            " FROM weir.rule r JOIN weir.rule_version v USING (rule_no) ORDER BY r.rule_no, v.version"
        )
        versions: dict[tuple[int, str], list[RuleVersion]] = defaultdict(list)
        for rule_no, tenant_id, effective_ms, document in await rows.fetchall():
            version = _parsed(rule_no, effective_ms, document)
            if version is not None:
                versions[rule_no, tenant_id].append(version)
        self.by_tenant = defaultdict(list)
        for (rule_no, tenant_id), known in versions.items():
            self.by_tenant[tenant_id].append(BookedRule(rule_no, tenant_id, tuple(known)))
        self.generation = generation
        return True


def _parsed(rule_no: int, effective_ms: int, document: object) -> RuleVersion | None:
    """One bad rule never stops another: it is left out and named."""
    if document is None:
        return RuleVersion(effective_ms, None)
    try:
        return RuleVersion(effective_ms, parse_rule(document))
    except RuleError as exc:
        log.warning("rule.unusable", rule_no=rule_no, problem=str(exc))
        return None
