"""Who the embedded servers run as, and what that account can reach."""

import contextlib
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Account:
    """Who the servers run as; all None means as ourselves. Fits subprocess' arguments."""

    uid: int | None = None
    gid: int | None = None
    groups: list[int] | None = None


def choose(folder: Path) -> Account:
    """Choose who runs the servers of a folder: we, or as root its owner, who must have a name."""
    if os.geteuid() != 0:
        return Account()
    with contextlib.suppress(KeyError):  # initdb refuses an account without a name
        owner = pwd.getpwuid(folder.stat().st_uid)
        if owner.pw_uid != 0:
            return Account(owner.pw_uid, owner.pw_gid, [])
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid, [])


def allows(account: Account, command: list[str]) -> bool:
    """Whether `account` can run `command`, asked of the system and not computed from mode bits."""
    if account.uid is None:
        return True
    try:
        answer = subprocess.run(
            command,
            user=account.uid,
            group=account.gid,
            extra_groups=account.groups,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except PermissionError:
        return False
    return answer.returncode == 0
