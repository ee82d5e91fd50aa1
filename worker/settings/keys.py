"""Keys: what secrets are sealed with, identities hashed, and messages signed."""

from typing import Literal

from pydantic import Field, SecretStr

from models.rules.trial import InvalidPeppers, Peppers
from tasks.signing import InvalidMessageKeys, MessageKeys
from webhooks.keyring import InvalidMasterKeys, Keyring
from worker.settings.group import InvalidSettings
from worker.settings.servers import Servers

MASTER_KEYS_FILE = "master_keys"
TRIAL_PEPPERS_FILE = "trial_peppers"
"""In the folder of the embedded servers: development keys, made once, readable by us alone."""


class Keys(Servers):
    """Keys from the environment; those beside the embedded servers, where these are used."""

    master_keys: SecretStr | None = Field(None, validation_alias="BILLING_MASTER_KEYS")
    """`key_id:base64` of 32 bytes, several separated by commas; the first seals, all open."""

    trial_peppers: SecretStr | None = Field(None, validation_alias="BILLING_TRIAL_PEPPERS")
    """`pepper_id:base64` of 32 bytes, several separated by commas: what identities that had a trial
    are hashed with. The first is used, all are known: one that is left out is forgotten, and with
    it who had a trial. A new one goes behind first, and to the front when all processes have it."""

    message_keys: SecretStr | None = Field(None, validation_alias="BILLING_MESSAGE_KEYS")
    """`key_id:base64` of 32 bytes, several separated by commas: what task messages are signed with.
    The first signs, all verify; without any, messages are neither signed nor checked."""

    message_signatures: Literal["required", "optional"] = Field(
        "required", validation_alias="BILLING_MESSAGE_SIGNATURES"
    )
    """Whether a worker that has keys refuses messages without a signature. "optional" while some
    producers have none yet; a wrong signature is refused either way."""

    def keyring(self) -> Keyring | None:
        """Return the master keys; None when there are none.

        Raises:
            InvalidSettings: they can not be read.
        """
        text = self._given_or_kept(self.master_keys, MASTER_KEYS_FILE)
        if text is None:
            return None
        try:
            return Keyring.parse(text)
        except InvalidMasterKeys as error:
            raise InvalidSettings(f"BILLING_MASTER_KEYS: {error}") from None

    def peppers(self) -> Peppers | None:
        """Return what identities that had a trial are hashed with; None when there is nothing.

        Raises:
            InvalidSettings: it can not be read.
        """
        text = self._given_or_kept(self.trial_peppers, TRIAL_PEPPERS_FILE)
        if text is None:
            return None
        try:
            return Peppers.parse(text)
        except InvalidPeppers as error:
            raise InvalidSettings(f"BILLING_TRIAL_PEPPERS: {error}") from None

    def signing_keys(self) -> MessageKeys | None:
        """Return what task messages are signed with; None when they are not.

        Raises:
            InvalidSettings: it can not be read.
        """
        if self.message_keys is None:
            return None
        try:
            return MessageKeys.parse(self.message_keys.get_secret_value())
        except InvalidMessageKeys as error:
            raise InvalidSettings(f"BILLING_MESSAGE_KEYS: {error}") from None

    def _given_or_kept(self, given: SecretStr | None, file: str) -> str | None:
        if given is not None:
            return given.get_secret_value()
        if self.database_url is not None:
            return None  # development keys never seal what is kept in a database of one's own
        try:
            return (self.local_folder / file).read_text().strip()
        except FileNotFoundError:
            return None
