"""Where webhooks may go, and how long one attempt may take."""

from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from webhooks.guard import Policy
from worker.settings.group import Group, InvalidSettings

FLOWER = frozenset({"flower:5555", "127.0.0.1:5555"})
"""Where Flower is, in docker-compose.yml and beside `billing up`: its API ends workers."""


class Endpoints(Group):
    """Endpoints of subscribers."""

    allow_http: bool = Field(False, validation_alias="BILLING_WEBHOOK_ALLOW_HTTP")
    """Whether endpoints may be http and not https: for development."""

    private_hosts: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(), validation_alias="BILLING_WEBHOOK_PRIVATE_HOSTS"
    )
    """Host names, addresses or networks on a private network that endpoints may point to."""

    send_timeout_seconds: float = Field(
        15, ge=1, le=30, validation_alias="BILLING_WEBHOOK_TIMEOUT_SECONDS"
    )
    """Of one webhook attempt, from the lookup of the name to the head of the answer."""

    @field_validator("private_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value

    def address_policy(self, own_servers: frozenset[str]) -> Policy:
        """Return which addresses endpoints may have.

        Args:
            own_servers: "host:port" of each server of ours, where nothing is ever sent.

        Raises:
            InvalidSettings: the private hosts can not be used.
        """
        try:
            return Policy(
                allow_http=self.allow_http,
                allowed_private_hosts=self.private_hosts,
                own_servers=FLOWER | own_servers,
            )
        except ValueError as error:
            raise InvalidSettings(f"BILLING_WEBHOOK_PRIVATE_HOSTS: {error}") from None
