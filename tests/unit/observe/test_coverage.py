"""The page of what there is says what the code says."""

from __future__ import annotations

from pathlib import Path

from cloudlet.observe.coverage import document

PAGE = Path(__file__).parents[3] / "docs" / "coverage.md"


def claims(page: str) -> list[str]:
    """The lines of what is there: what is missing grows with each release of AWS's models."""
    return [line for line in page.splitlines() if line.startswith(("## ", "Implemented: ", "AWS::"))]


def test_the_page_is_the_codes_own() -> None:
    assert claims(PAGE.read_text()) == claims(document()), "run: make coverage"
