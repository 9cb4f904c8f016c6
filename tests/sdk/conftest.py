"""What tests of containers share: an image, and a cloud on each engine that this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from pulled import cloud_with_engine

from cloudlet.testing import LocalCloud

_PROGRAMS = "cat chroot echo env false grep hostname httpd id ls mkdir nc nslookup sh sleep stty true tty wget"


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image: a root file system with nothing but busybox in it, and pages that say which version they are of."""
    program = shutil.which("busybox")
    if program is None or b"dynamically" in subprocess.run(["file", "-L", program], capture_output=True).stdout:
        pytest.skip("needs a static busybox: apt-get install busybox-static")
    folder = tmp_path_factory.mktemp("busybox")
    for name in ("bin", "etc", "tmp", "www"):
        (folder / name).mkdir()
    shutil.copy(program, folder / "bin/busybox")
    for name in _PROGRAMS.split():
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\nother:x:1000:1000::/:/bin/sh\n")
    (folder / "www/index.html").write_text("hello")
    for version in ("one", "two"):
        (folder / version).mkdir()
        (folder / version / "index.html").write_text(version)
    return str(folder)


@pytest.fixture
def podman_cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    """A cloud on Podman."""
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("needs podman and root")
    monkeypatch.setenv("CLOUDLET_ENGINE", "podman")
    with cloud_with_engine(LocalCloud()) as running:
        yield running


@pytest.fixture(params=["podman", "processes"])
def engine_cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    """A cloud on each engine that this machine has."""
    if request.param == "podman" and (shutil.which("podman") is None or os.geteuid() != 0):
        pytest.skip("needs podman and root")
    if request.param == "processes" and shutil.which("bwrap") is None:
        pytest.skip("needs bwrap")
    monkeypatch.setenv("CLOUDLET_ENGINE", request.param)
    with cloud_with_engine(LocalCloud()) as running:
        yield running
