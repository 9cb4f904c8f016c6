"""What an image's reference says: its registry, its name there, its tag or digest."""

from __future__ import annotations

import re

# An image of AWS's own registry, as the account's registry is called there and here.
ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)(?:\.(?:localhost(?::\d+)?|amazonaws\.com(?:\.cn)?))?/"
    r"(?P<name>[a-z0-9._/-]+?)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_DOCKER = "registry-1.docker.io"
# https://github.com/distribution/reference
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::\d+)?"
_VALID = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", re.ASCII)


def is_valid(reference: str) -> bool:
    """Whether a reference is one that a registry could have."""
    return _VALID.fullmatch(reference) is not None


def parse(reference: str) -> tuple[str, str, str]:
    """A reference's host, its name there, and its tag or digest; Docker's own registry is meant where none is named."""
    name, wanted = split(reference)
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = _DOCKER, name if slash else f"library/{name}"
    return (_DOCKER if host == "docker.io" else host), rest, wanted


def split(reference: str) -> tuple[str, str]:
    """What comes before the tag or digest, and that; ``latest`` where there is none."""
    name, _, digest = reference.partition("@")
    name, tag = (name, "latest") if ":" not in name.rpartition("/")[2] else name.rsplit(":", 1)
    return name, digest or tag


def pinned(reference: str, digest: str) -> str:
    """The same image by its digest."""
    return f"{split(reference)[0]}@{digest}"


def shown(reference: str) -> str:
    """A reference in full, as those that pull it name it in their errors."""
    host, name, wanted = parse(reference)
    return f"{'docker.io' if host == _DOCKER else host}/{name}{'@' if wanted.startswith('sha256:') else ':'}{wanted}"


def is_local(host: str) -> bool:
    """Whether a registry is on this machine: such are spoken to in HTTP."""
    plain = host.partition(":")[0]
    return plain == "localhost" or plain.endswith(".localhost") or plain.startswith("127.")
