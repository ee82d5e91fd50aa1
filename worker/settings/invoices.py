"""How invoices look on paper, and who is told of them."""

import datetime as dt
import re
from typing import Literal

from pydantic import Field, FilePath, SecretStr

from tasks.config import Provider
from webhooks import guard, stripe_invoices
from webhooks.guard import Policy
from worker.settings.group import Group, InvalidSettings

SECRET_KEY = re.compile(r"[!-~]{8,255}")
"""Of a provider. Which letters it has is the provider's own business."""

PUBLISHABLE_KEY = "pk_"
"""How Stripe's keys begin that open nothing."""


class Invoices(Group):
    """Invoices on paper and at a payment provider."""

    paper_font: FilePath | None = Field(None, validation_alias="BILLING_PAPER_FONT")
    """A TrueType font with letters that PDFs need and ours lack, such as Chinese ones."""

    provider: Literal["stripe"] | None = Field(None, validation_alias="BILLING_PROVIDER")
    """Who is told of each invoice once it has its number; nobody, if unset."""

    provider_key: SecretStr | None = Field(None, validation_alias="BILLING_PROVIDER_KEY")
    """Opens the account there: a key that may write customers, invoices and credit notes."""

    provider_url: str = Field(stripe_invoices.URL, validation_alias="BILLING_PROVIDER_URL")
    """Where its API is, such as a mock's."""

    provider_collects: bool = Field(False, validation_alias="BILLING_PROVIDER_COLLECTS")
    """Whether the provider may charge customers for what is final there."""

    provider_timeout_seconds: float = Field(
        15, ge=1, le=30, validation_alias="BILLING_PROVIDER_TIMEOUT_SECONDS"
    )
    """Deadline of one request there."""

    def told_provider(self, policy: Policy) -> Provider | None:
        """Return who is told of each invoice; None for nobody.

        Raises:
            InvalidSettings: its key or URL can not be used, or there is a key of nobody.
        """
        if self.provider is None:
            if self.provider_key is not None:
                raise InvalidSettings(
                    "BILLING_PROVIDER_KEY is set and BILLING_PROVIDER is not; set that to stripe"
                )
            return None
        try:
            guard.check_url(self.provider_url, policy=policy)
        except guard.UrlRefused as error:
            raise InvalidSettings(f"BILLING_PROVIDER_URL: {error}") from None
        return Provider(
            name=self.provider,
            secret_key=self._provider_key(),
            base_url=self.provider_url,
            collects=self.provider_collects,
            timeout=dt.timedelta(seconds=self.provider_timeout_seconds),
        )

    def _provider_key(self) -> str:
        key = "" if self.provider_key is None else self.provider_key.get_secret_value().strip()
        if not SECRET_KEY.fullmatch(key) or key.startswith(PUBLISHABLE_KEY):
            raise InvalidSettings(
                "BILLING_PROVIDER_KEY must be a secret key, such as sk_live_… or rk_live_…, where "
                "BILLING_PROVIDER is set; it is "
                + ("not set" if not key else "something else, which is not shown")
            )
        return key
