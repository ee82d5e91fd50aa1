"""When the nightly checks looked, and how much they found."""

import datetime as dt
from enum import StrEnum

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, one_of


class Check(StrEnum):
    """What is looked at every night: days' totals, quotas' counters, the ledger of credit."""

    usage = "usage"
    quotas = "quotas"
    credit = "credit"


class CheckRun(Base):
    """One part of a run: runs whose time is up go on in another message, with the same instant.

    A run is whole when the part that began at the front, where `after` is empty, is there, and the
    one behind which nothing was left. `findings` are those of this part.
    """

    __tablename__ = "check_runs"
    __table_args__ = (one_of("name", Check),)

    name: Mapped[str] = mapped_column(primary_key=True)
    began_at: Mapped[dt.datetime] = mapped_column(primary_key=True)
    after: Mapped[str] = mapped_column(primary_key=True)
    is_last: Mapped[bool]
    findings: Mapped[int] = mapped_column(BigInteger)
