"""Where webhooks may go, and how long one attempt may take."""

from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from webhooks.guard import Policy
from worker.settings.group import Group, InvalidSettings

FLOWER = frozenset({"flower:5555", "127.0.0.1:5555"})
"""Where Flower is, in docker-compose.yml and beside `billing up`: its API ends workers."""


LOOPBACK_HOSTS = "127.0.0.0/8,::1/128,localhost"


class Endpoints(Group):
    """Endpoints of subscribers."""

    allow_http: bool = Field(False, validation_alias="BILLING_WEBHOOK_ALLOW_HTTP")
    """Whether endpoints may be http and not https: for development; they may beside the embedded
    database, if unset."""

    private_hosts: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(), validation_alias="BILLING_WEBHOOK_PRIVATE_HOSTS"
    )
    """Host names, addresses or networks on a private network that endpoints may point to; this
    machine beside the embedded database, if unset."""

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

    def address_policy(self, own_servers: frozenset[str], *, in_development: bool) -> Policy:
        """Return which addresses endpoints may have.

        Args:
            own_servers: "host:port" of each server of ours, where nothing is ever sent.
            in_development: plain http and this machine are allowed, unless they are set otherwise.

        Raises:
            InvalidSettings: the private hosts can not be used.
        """
        opens = {"allow_http", "private_hosts"} - self.model_fields_set if in_development else set()
        loopback = frozenset(LOOPBACK_HOSTS.split(","))
        try:
            return Policy(
                allow_http="allow_http" in opens or self.allow_http,
                allowed_private_hosts=loopback if "private_hosts" in opens else self.private_hosts,
                own_servers=FLOWER | own_servers,
            )
        except ValueError as error:
            raise InvalidSettings(f"BILLING_WEBHOOK_PRIVATE_HOSTS: {error}") from None
