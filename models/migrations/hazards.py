"""What a migration must not do while the release before is at work, read off its SQL.

Told by a test of every migration since `RULED_SINCE`. One that has to says so in its module, with
the reason: `breaks_older` (stop the old workers first), `holds_locks` (others wait for a table), or
`harmless` (why neither is so). `billing migrate` shows the first two before it begins.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["breaks_older", "holds_locks"]

NAME: Final = r'"?([a-z_][a-z0-9_.]*)"?'
TABLE: Final = rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{NAME}"

RULES: Final[tuple[tuple[Kind, str, str], ...]] = (
    ("breaks_older", rf"DROP TABLE (?:IF EXISTS )?{NAME}", "drops table {}"),
    ("breaks_older", rf"{TABLE}.* DROP COLUMN ", "drops a column of {}"),
    ("breaks_older", rf"{TABLE}.* RENAME ", "renames {} or a part of it"),
    ("breaks_older", rf"{TABLE}.* TYPE ", "changes the type of a column of {}"),
    ("breaks_older", rf"{TABLE}.* SET NOT NULL", "demands a column of {} that may be empty"),
    (
        "breaks_older",
        rf"{TABLE} ADD COLUMN (?!.*(?:DEFAULT|GENERATED)).* NOT NULL",
        "adds a column to {} that nobody fills: NOT NULL without a default",
    ),
    (
        "breaks_older",
        rf"{TABLE}.* ADD CONSTRAINT ",
        "forbids rows of {} that the release before may write",
    ),
    ("breaks_older", rf"CREATE UNIQUE INDEX.* ON {NAME}", "forbids rows of {} that are alike"),
    ("breaks_older", rf"CREATE (?:OR REPLACE )?TRIGGER.* ON {NAME}", "a trigger changes {}"),
    ("holds_locks", rf"{TABLE}.* TYPE ", "writes {} anew"),
    ("holds_locks", rf"{TABLE}.* SET NOT NULL", "reads all of {} under a lock"),
    (
        "holds_locks",
        rf"{TABLE} ADD COLUMN .*(?:GENERATED|random|clock_timestamp|uuid\(|uuidv)",
        "writes {} anew",
    ),
    (
        "holds_locks",
        rf"{TABLE}.* ADD CONSTRAINT (?!.*(?:NOT VALID|USING INDEX))",
        "reads all of {} under a lock: add it NOT VALID and validate it in a migration of its own",
    ),
    (
        "holds_locks",
        rf"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).* ON (?:ONLY )?{NAME}",
        "keeps others from writing {} while an index is made: use models.migrations.online",
    ),
    ("holds_locks", rf"(?:LOCK TABLE|VACUUM FULL|CLUSTER|TRUNCATE) {NAME}", "locks {}"),
    (
        "holds_locks",
        rf"(?:UPDATE|DELETE FROM) {NAME}",
        "changes rows of {}, which stay locked to the end: do it in chunks, by a task",
    ),
)


@dataclass(frozen=True, slots=True)
class Hazard:
    """One thing that a migration does to a table which others use."""

    kind: Kind
    says: str


def find(sql: str) -> list[Hazard]:
    """Return what the statements of one migration do to tables that they did not make."""
    statements = list(_statements(sql))
    made = {name for one in statements for name in re.findall(rf"CREATE TABLE {NAME}", one)}
    return [
        Hazard(kind, says.format(match[1]))
        for one in statements
        for kind, pattern, says in RULES
        if (match := re.search(rf"^{pattern}", one)) and match[1] not in made | {"alembic_version"}
    ]


def _statements(sql: str) -> Iterator[str]:
    """Yield each statement on one line, without comments, and without what it quotes."""
    bare = re.sub(r"--[^\n]*", "", sql)
    bare = re.sub(r"\$(\w*)\$.*?\$\1\$", "''", bare, flags=re.DOTALL)
    bare = re.sub(r"'(?:[^']|'')*'", "''", bare)
    for one in bare.split(";"):
        if line := " ".join(one.split()):
            yield line
