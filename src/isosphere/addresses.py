"""Addresses of files on a network. Passwords and signatures in them are known to this process alone: what is printed
and stored is the address without them.
"""

import re
from dataclasses import dataclass, field

from isosphere.errors import UsageError

__all__ = ["Secrets", "is_address", "public", "secrets_of", "without_secrets"]

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://((?:(?! \+ ).)*)", re.IGNORECASE | re.DOTALL)
_WITHIN_WORDS = re.compile(r"([a-z][a-z0-9+.-]*)://([^\s'\"<>]*)", re.IGNORECASE)
_LOGIN = re.compile(r"[^/@:]*(?::[^@]*)?@")
_PORT = re.compile(r"[^/@:]*:\d+/")
_QUERY = re.compile(r"[?#](?!classes=).*?(?=\?classes=|$)", re.DOTALL)  # ?classes=FILE is ours, and no secret


@dataclass(frozen=True)
class Secrets:
    """What an address holds that nobody else may see: ``user:password``, and the query, which signs many addresses."""

    login: str = field(default="", repr=False)
    query: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.login or self.query)


_known: dict[str, Secrets] = {}


def is_address(text: str) -> bool:
    """Whether a text is ``scheme://...``."""
    return _ADDRESS.match(text) is not None


def public(text: str, given: dict[str, Secrets] | None = None) -> str:
    """The text without the secrets of the addresses in it, ``A + B`` too; :func:`secrets_of` tells them.

    `given`: those of other texts of the same command, to which these are added. Raises: UsageError for addresses that
    differ in their secrets alone.
    """
    known = {} if given is None else given
    return _ADDRESS.sub(lambda found: _remembered(found, known), text)


def secrets_of(address: str) -> Secrets:
    """The secrets with which this process was given an address, by the address without them."""
    return _known.get(address, Secrets())


def without_secrets(words: str) -> str:
    """Somebody else's sentence without the secrets of the addresses in it."""
    return _WITHIN_WORDS.sub(lambda found: _divided(found)[0], words)


def _remembered(found: re.Match[str], given: dict[str, Secrets]) -> str:
    address, secrets = _divided(found)
    place = address.partition("?classes=")[0].strip()
    if secrets and given.setdefault(place, secrets) != secrets:
        raise UsageError(
            f"{place} is named with different queries or passwords, which are taken for secrets of one file. Fetch "
            "files that differ in them alone, and give their folder."
        )
    if secrets:
        _known[place] = secrets
    return address


def _divided(found: re.Match[str]) -> tuple[str, Secrets]:
    scheme, rest = found[1].lower(), found[2]
    on_the_web = scheme in ("http", "https")
    login = _LOGIN.match(rest)
    if login is not None and on_the_web and _PORT.match(login[0]):  # http://host:8080/a@b.tar
        login = None
    rest = rest[login.end() :] if login else rest
    query = _QUERY.search(rest) if on_the_web else None  # elsewhere ? is a wildcard
    if query is not None:
        rest = rest[: query.start()] + rest[query.end() :]
    secrets = Secrets(login[0][:-1] if login else "", query[0] if query else "")
    return f"{found[1]}://{rest}", secrets
