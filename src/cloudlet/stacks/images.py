"""Container images that templates describe by a folder and a Dockerfile, as ``sam build`` makes them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloudlet.stacks.errors import invalid

_SECONDS = 900


def described(metadata: Any) -> bool:
    """Whether a resource's metadata says how its image is built."""
    return isinstance(metadata, dict) and isinstance(metadata.get("DockerContext"), str)


def build(logical_id: str, template: Path, metadata: dict[str, Any], say: Callable[[str], None]) -> str:
    """Build an image, and return the name by which this machine's container engine has it. Blocks.

    ``template`` is the folder that paths are relative to. Raises ValidationError with the builder's words.
    """
    context = (template / metadata["DockerContext"]).resolve()
    file = context / metadata.get("Dockerfile", "Dockerfile")
    for path in (context, file):
        if not path.exists():
            raise invalid(f"The image of {logical_id} is to be built of {path}, which does not exist.")
    arguments = dict(metadata.get("DockerBuildArgs") or {})
    options = [item for name, value in sorted(arguments.items()) for item in ("--build-arg", f"{name}={value}")]
    if target := metadata.get("DockerBuildTarget"):
        options += ["--target", target]
    reference = f"localhost/cloudlet/{logical_id.lower()}:{_fingerprint(context, file, options)}"
    say(f"Building the image of {logical_id}")
    command = [*_builder(logical_id), *options, "-t", reference, "-f", str(file), str(context)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    if ran.returncode:
        raise invalid(f"The image of {logical_id} cannot be built: {(ran.stderr or ran.stdout).strip()[-2000:]}")
    return reference


def _builder(logical_id: str) -> list[str]:
    """What builds images for the container engine that runs them. Raises ValidationError where there is none."""
    from cloudlet.engines.containers import find
    from cloudlet.engines.containers.api import EngineMissing

    try:
        engine = find.kind()
    except EngineMissing as error:
        raise invalid(f"The image of {logical_id} cannot be built: {error}") from None
    if engine == "docker" and shutil.which("docker"):
        # Lambda does not take the lists of images that come with attestations.
        return ["docker", "build", "--provenance=false"]
    if engine == "podman" and shutil.which("buildah"):
        return ["buildah", "bud", "--layers", "--isolation", "chroot"]
    if engine == "podman":
        return ["podman", "build", "--layers"]
    raise invalid(
        f"The image of {logical_id} cannot be built: there is neither Docker nor Podman here; install one, for example "
        "with: apt-get install podman buildah"
    )


def _fingerprint(context: Path, file: Path, options: list[str]) -> str:
    """A name for all that the image is built of."""
    found = hashlib.sha256(repr(options).encode() + file.read_bytes())
    for path in sorted(path for path in context.rglob("*") if path.is_file() and ".git" not in path.parts):
        found.update(f"{path.relative_to(context)}\0{path.stat().st_mode & 0o111}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:20]
