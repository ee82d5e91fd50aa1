"""Which drafts, computed again, say something else than before."""

from collections.abc import Sequence

import orjson
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.store import drafting, line_rows
from models.store.drafting import Drafted


def among(session: Session, drafts: Sequence[Drafted]) -> list[Drafted]:
    """Return those of stored drafts that say something else than what is stored, in order.

    The content is read of those alone whose fingerprint is another: nearly always of none.
    """
    fingerprints = line_rows.fingerprints(map(drafting.content, drafts))
    rows = [
        {"id": one.header.id, "fingerprint": fingerprint, "total_minor": one.header.total_minor}
        for one, fingerprint in zip(drafts, fingerprints, strict=True)
    ]
    others = set(session.scalars(_OTHERS, {"rows": orjson.dumps(rows).decode()}))
    asked = [one for one in drafts if one.header.id in others]
    stored = drafting.get_all(session, [one.header for one in asked]) if asked else []
    return [
        one
        for one, there in zip(asked, stored, strict=True)
        if (one.lines, one.bill) != (there.lines, there.bill)
    ]


_OTHERS = sql("""
    SELECT invoices.id
    FROM json_to_recordset(CAST(:rows AS json))
             AS computed(id uuid, fingerprint text, total_minor bigint)
         JOIN invoices ON invoices.id = computed.id
    WHERE (invoices.fingerprint, invoices.total_minor)
          IS DISTINCT FROM (computed.fingerprint, computed.total_minor)
""")
