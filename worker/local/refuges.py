"""A folder of our own for what an account can not reach where it is."""

import os
import pwd
import stat
import tempfile
from pathlib import Path

from worker.local import accounts
from worker.local.accounts import Account

REFUGE = "billing-local"


class NoSafeFolder(RuntimeError):
    """We are root, and nowhere is a folder that is ours and that the servers' account can reach."""

    def __init__(self, account: str, tried: list[Path]) -> None:
        super().__init__(
            f"servers do not run as root, and no folder was found for the account {account!r}: "
            f"one of {', '.join(map(str, tried))} must belong to root, be writable by root alone, "
            f"lie where every user may pass and programs may run"
        )


def is_trusted(place: Path) -> bool:
    """Tell whether a place is one that we made, wherever it leads."""
    # As root we may work in a folder of somebody else, who could have linked it to anywhere.
    if os.geteuid() != 0 or not place.is_symlink():
        return True
    refuge = place.readlink().parent
    return refuge.name == REFUGE and _is_ours_alone(refuge)


def find(folder: Path, account: Account) -> Path:
    """A folder that is ours alone and where `account` may pass, as lasting as `folder` itself."""
    lasting, passing = Path("/var/lib"), Path(tempfile.gettempdir()).resolve()
    places = [passing, lasting] if folder.is_relative_to(passing) else [lasting, passing]
    tried = [place / REFUGE for place in places]
    for path in tried:
        if (
            _is_made(path)
            and _is_ours_alone(path)
            and accounts.allows(account, ["test", "-x", str(path)])
        ):
            return path
    raise NoSafeFolder(pwd.getpwuid(account.uid or 0).pw_name, tried)


def make_passable(path: Path) -> None:
    """Make a folder that everybody may pass through, and nobody else write to."""
    path.mkdir()
    path.chmod(0o755)  # whatever the umask: the account has to pass


def _is_made(path: Path) -> bool:
    try:
        make_passable(path)
    except FileExistsError:
        return True
    except OSError:  # no such place on this system, or read-only
        return False
    return True


def _is_ours_alone(path: Path) -> bool:
    """Whether nobody else made `path`, can write in it, or can put another in its place."""
    try:
        entry, parent = path.lstat(), path.parent.stat()
    except FileNotFoundError:
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    replaceable = parent.st_mode & others and not parent.st_mode & stat.S_ISVTX
    ours = stat.S_ISDIR(entry.st_mode) and entry.st_uid == os.geteuid()
    return ours and not entry.st_mode & others and not replaceable
