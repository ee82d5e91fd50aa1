"""When old usage leaves the database, and where to."""

import datetime as dt
from pathlib import Path

from pydantic import Field, field_validator

from tasks.config import Retention
from worker.settings.group import Group, InvalidSettings, folder


class Archives(Group):
    """Archives of usage."""

    archive_after_days: int | None = Field(
        None, ge=35, le=36_500, validation_alias="BILLING_USAGE_ARCHIVE_AFTER_DAYS"
    )
    """Usage of months that ended so long ago, and are invoiced for good, is archived and purged;
    never, if unset. No quota's window and nothing that is counted again at night is so old."""

    archive_folder: Path | None = Field(None, validation_alias="BILLING_USAGE_ARCHIVE_FOLDER")
    """Where its files are written: a folder that is there, the same for every worker."""

    keys_remembered_days: int = Field(
        400, ge=1, le=36_500, validation_alias="BILLING_USAGE_KEYS_REMEMBERED_DAYS"
    )
    """How long after its purge an event that is sent again is known to be a duplicate."""

    archive_uninvoiced: bool = Field(False, validation_alias="BILLING_USAGE_ARCHIVE_UNINVOICED")
    """Also usage that nobody was ever charged for."""

    _usable_archive_folder = field_validator("archive_folder")(folder)

    def retention(self) -> Retention | None:
        """Return how usage leaves the database; None for never.

        Raises:
            InvalidSettings: it is to leave, and there is nowhere to.
        """
        if self.archive_after_days is None:
            return None
        if self.archive_folder is None or not self.archive_folder.is_absolute():
            raise InvalidSettings(
                "BILLING_USAGE_ARCHIVE_FOLDER must be an absolute path where "
                "BILLING_USAGE_ARCHIVE_AFTER_DAYS is set, such as /var/lib/billing/archives; it is "
                f"{self.archive_folder or 'not set'}"
            )
        return Retention(
            after=dt.timedelta(days=self.archive_after_days),
            folder=self.archive_folder,
            keys_remembered=dt.timedelta(days=self.keys_remembered_days),
            even_uninvoiced=self.archive_uninvoiced,
        )
