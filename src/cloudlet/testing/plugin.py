"""The pytest plugin: ``cloud`` is a running cloud of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloudlet.testing.local import LocalCloud


@pytest.fixture
def cloud() -> Iterator[LocalCloud]:
    """A cloud of this test's own, gone at its end. Its log is shown when the test fails."""
    with LocalCloud() as running:
        yield running
        if running.log:
            print(running.log)
