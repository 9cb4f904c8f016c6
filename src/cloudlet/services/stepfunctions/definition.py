"""A state machine's definition: read and checked once, then only looked at."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from cloudlet.errors import AwsError

_LARGEST = 1024 * 1024


class Problem(NamedTuple):
    """What is wrong with a definition, and where."""

    code: str
    message: str
    location: str
    severity: str = "ERROR"


@dataclass(slots=True)
class State:
    """One state. ``fields`` are as they are written; ``inner`` are its branches, or its one item processor."""

    name: str
    fields: dict[str, Any]
    jsonata: bool
    inner: list[Machine] = field(default_factory=list)

    @property
    def type(self) -> str:
        """Pass, Task, Choice and so on."""
        return str(self.fields["Type"])

    @property
    def next(self) -> str | None:
        """The state that follows, or None at the end."""
        return self.fields.get("Next")


@dataclass(slots=True)
class Machine:
    """States and where they begin: a whole definition, a branch, or an item processor."""

    start: str
    states: dict[str, State]
    fields: dict[str, Any]
    version: str = "1.0"

    @property
    def timeout(self) -> float | None:
        """Seconds that an execution may take."""
        return self.fields.get("TimeoutSeconds")


def parse(text: str, kind: str = "STANDARD") -> Machine:
    """The machine of a definition. Raises InvalidDefinition with everything that is wrong."""
    machine, problems = diagnose(text, kind)
    errors = [problem for problem in problems if problem.severity == "ERROR"]
    if errors or machine is None:
        said = ", ".join(
            f"{problem.code}: {problem.message}" + (f" at {problem.location}" if problem.location else "")
            for problem in errors
        )
        raise AwsError("InvalidDefinition", f"Invalid State Machine Definition: '{said}'")
    return machine


@functools.lru_cache(256)
def diagnose(text: str, kind: str = "STANDARD") -> tuple[Machine | None, tuple[Problem, ...]]:
    """The machine of a definition, if there is one, and all problems."""
    from cloudlet.services.stepfunctions.checks import Checker

    if len(text) > _LARGEST:
        return None, (Problem("SCHEMA_VALIDATION_FAILED", "The definition is larger than 1 MB", ""),)
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        return None, (Problem("INVALID_JSON_DESCRIPTION", str(error), ""),)
    if not isinstance(document, dict):
        return None, (Problem("INVALID_JSON_DESCRIPTION", "The definition is not a JSON object", ""),)
    checker = Checker(kind)
    checker.machine(document, "", jsonata=False, depth=0)
    errors = any(problem.severity == "ERROR" for problem in checker.problems)
    machine = None if errors else build(document, jsonata=False)
    return machine, tuple(checker.problems)


def build(document: dict[str, Any], *, jsonata: bool) -> Machine:
    """The machine of a document that has been checked."""
    jsonata = document.get("QueryLanguage", "JSONata" if jsonata else "JSONPath") == "JSONata"
    states = {name: build_state(name, fields, jsonata) for name, fields in document["States"].items()}
    return Machine(document["StartAt"], states, document, document.get("Version", "1.0"))


def build_state(name: str, fields: dict[str, Any], jsonata: bool) -> State:
    """The state of a checked document."""
    own = fields.get("QueryLanguage", "JSONata" if jsonata else "JSONPath") == "JSONata"
    branches = fields.get("Branches") or [
        fields[key] for key in ("ItemProcessor", "Iterator") if isinstance(fields.get(key), dict)
    ]
    return State(name, fields, own, [build(branch, jsonata=jsonata) for branch in branches])


def every_state(machine: Machine) -> list[State]:
    """All states, also those that lie in others."""
    found: list[State] = []
    for state in machine.states.values():
        found.append(state)
        for inner in state.inner:
            found += every_state(inner)
    return found
