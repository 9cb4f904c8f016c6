"""What one container sees, where there is no engine: its own root file system, in bubblewrap."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudlet.engines.containers import folders, programs
from cloudlet.engines.containers.api import CannotStart, Container, ImageMissing, Mount
from cloudlet.engines.containers.images import Image, inside

# What Docker gives to a container.
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP"),
    *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "AUDIT_WRITE"),
)
BECOME = "/.cloudlet-become"  # within the sandbox, where it runs as another user

# Keeps what the container prints in files (a pipe between, since programs may open /dev/stdout anew), and at the end
# its exit status. $1: files of control groups; then the command.
_KEEP = """
groups=$1; shift
mkfifo -m 666 out.pipe err.pipe
cat <out.pipe >>stdout & cat <err.pipe >>stderr &
( for file in $groups; do echo 0 >"$file"; done; exec "$@" ) >out.pipe 2>err.pipe
code=$?
wait
rm -f out.pipe err.pipe
echo $code >exit.new; mv exit.new exit
"""
_OVERLAY = 'mount -t overlay overlay -o lowerdir=image,upperdir=upper,workdir=work root || exit 125; exec "$@"'


@dataclass(frozen=True, slots=True)
class Program:
    """What a container runs, after its image and its own settings."""

    argv: list[str]
    environment: dict[str, str]
    folder: str
    user: int
    group: int
    stop_signal: str


def program(container: Container, image: Image, writable: Path, mounts: Sequence[Mount]) -> Program:
    """Put together what the image says and what the container says. Raises CannotStart."""
    if image.application:
        container = folders.prepared(container)
    settings = image.settings
    entrypoint = container.entrypoint if container.entrypoint is not None else settings.get("Entrypoint") or ()
    # A new entry point takes the image's command away.
    own = () if container.entrypoint is not None else settings.get("Cmd") or ()
    argv = [*entrypoint, *(container.command if container.command is not None else own)]
    if not argv:
        raise CannotStart("No command specified")
    environment = dict(entry.partition("=")[::2] for entry in settings.get("Env") or ())
    environment |= {"HOME": "/", **container.environment}
    folder = container.working_dir or settings.get("WorkingDir") or "/"
    root = Path("/") if image.application else writable
    argv[0] = _find(argv[0], root, environment.get("PATH", ""), folder, mounts)
    user, group = _user(container.user or settings.get("User") or "", root)
    return Program(argv, environment, folder, user, group, container.stop_signal or settings.get("StopSignal") or "")


def keep(groups: Sequence[str], command: Sequence[str]) -> list[str]:
    """The whole command of a container; it works in the container's folder."""
    return ["/bin/sh", "-c", _KEEP, "container", " ".join(map(shlex.quote, groups)), *command]


def overlay(command: Sequence[str]) -> list[str]:
    """Run with ``root`` being ``image`` with ``upper`` over it; both vanish with the command."""
    return ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", _OVERLAY, "overlay", *command]


def limits(ulimits: Mapping[str, tuple[int, int]]) -> list[str]:
    """What goes before a command with limits of its own."""
    words = {-1: "unlimited"}
    named = [
        f"--{name}={words.get(soft, soft)}:{words.get(hard, hard)}" for name, (soft, hard) in sorted(ulimits.items())
    ]
    return ["prlimit", *named] if named else []


def arguments(
    container: Container,
    image: Image,
    run: Program,
    folder: Path,
    etc: Path,
    mounts: Sequence[Mount],
    hostname: str,
    info: int,
) -> list[str]:
    """Bubblewrap's arguments before the command; ``folder`` is the container's, ``etc`` has the pod's own files."""
    made = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--clearenv", "--info-fd", str(info)]
    if hostname:
        made += ["--hostname", hostname]
    if not container.init:
        made.append("--as-pid-1")
    made += _powers(container, run)
    if image.application:
        made += ["--tmpfs", "/", "--dir", "/tmp", "--dir", "/etc"]
        for path in folders.system():
            made += ["--ro-bind", path, path]
    else:
        made += ["--bind", str(folder / "root"), "/"]
    made += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys"]
    for name in sorted(os.listdir(etc)):
        made += ["--bind", str(etc / name), f"/etc/{name}"]
    for mount in mounts:
        for parent in reversed(Path(mount.target).parents[:-1]):
            made += ["--perms", "0755", "--dir", str(parent)]  # else those that are not there are its alone
        made += ["--ro-bind" if mount.read_only else "--bind", mount.source, mount.target]
    for path, size in {
        **container.tmpfs,
        **({"/dev/shm": container.shared_memory} if container.shared_memory else {}),
    }.items():
        made += ["--size", str(size), "--tmpfs", path]
    made += ["--dir", run.folder, "--chdir", run.folder]
    if becomes(run):
        helper = folder / "become"
        try:
            helper.write_bytes(programs.become(run.user, run.group))
        except KeyError:
            raise CannotStart(f"The user {container.user} needs a container engine on this kind of machine.") from None
        helper.chmod(0o755)
        made += ["--ro-bind", str(helper), BECOME]
    if container.read_only:
        made += ["--remount-ro", "/"]
    for name, value in run.environment.items():
        made += ["--setenv", name, value]
    return made


def _powers(container: Container, run: Program) -> list[str]:
    """Who the program is, and the capabilities that it keeps."""
    made: list[str] = []
    root = os.geteuid() == 0
    if not root and (run.user or run.group):
        made += ["--unshare-user", "--uid", str(run.user), "--gid", str(run.group)]
    if root and not container.privileged:
        made += ["--cap-drop", "ALL"]
        kept = () if "ALL" in container.dropped else CAPABILITIES
        taken = {name.removeprefix("CAP_") for name in container.dropped}
        for name in dict.fromkeys(one for one in (*kept, *container.capabilities) if one not in taken):
            made += ["--cap-add", name if name == "ALL" else f"CAP_{name.removeprefix('CAP_')}"]
    return made


def becomes(run: Program) -> bool:
    """Whether a program of ours has to change to the container's user; without root, bubblewrap pretends it."""
    return os.geteuid() == 0 and bool(run.user or run.group)


def _find(name: str, root: Path, path: str, folder: str, mounts: Sequence[Mount]) -> str:
    """The path of a program within the image. Raises CannotStart as Docker words it."""
    places = [name] if "/" in name else [f"{place.rstrip('/')}/{name}" for place in path.split(":") if place]
    for place in places:
        absolute = place if place.startswith("/") else f"{folder.rstrip('/')}/{place}"
        if any(absolute.startswith(f"{mount.target.rstrip('/')}/") for mount in mounts):
            under = next(mount for mount in mounts if absolute.startswith(f"{mount.target.rstrip('/')}/"))
            found = Path(under.source) / os.path.relpath(absolute, under.target)
        else:
            found = inside(root, absolute)
        if found.is_file() and os.access(found, os.X_OK):
            return absolute
    where = "no such file or directory" if "/" in name else "executable file not found in $PATH"
    raise CannotStart(f'exec: "{name}": {where}')


def _user(text: str, root: Path) -> tuple[int, int]:
    """The numbers of a user (and group), named or numbered. Raises CannotStart."""
    if not text:
        return 0, 0
    user, _, group = text.partition(":")
    users = _table(root, "passwd")
    entry = next((line for line in users if user in (line[0], line[2])), None)
    if entry is None and not user.isdecimal():
        raise CannotStart(f"unable to find user {user}: no matching entries in passwd file")
    number = int(entry[2]) if entry is not None else int(user)
    if not group:
        return number, int(entry[3]) if entry is not None else 0
    found = next((line for line in _table(root, "group") if group in (line[0], line[2])), None)
    if found is None and not group.isdecimal():
        raise CannotStart(f"unable to find group {group}: no matching entries in group file")
    return number, int(found[2]) if found is not None else int(group)


def _table(root: Path, name: str) -> list[list[str]]:
    try:
        lines = inside(root, f"etc/{name}").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [fields for line in lines if len(fields := line.split(":")) > 3 or (name == "group" and len(fields) > 2)]


def missing(reference: str) -> ImageMissing:
    """The error for an image that is not here."""
    return ImageMissing(f"No such image: {reference}")
