"""The checks of a definition: what AWS refuses when a state machine is made, in its codes."""

from __future__ import annotations

import re
from typing import Any

from cloudlet.services.jsonpath import BadPath, compile_path, compile_reference, is_number
from cloudlet.services.stepfunctions import integrations
from cloudlet.services.stepfunctions.choices import COMPARATORS
from cloudlet.services.stepfunctions.definition import Problem
from cloudlet.services.stepfunctions.intrinsics import BadIntrinsic, compile_intrinsic
from cloudlet.services.stepfunctions.queries import BadQuery, compile_query, is_query

_DEEPEST = 20
_SCHEMA = "SCHEMA_VALIDATION_FAILED"
_MACHINE = frozenset(("Comment", "StartAt", "States", "Version", "TimeoutSeconds", "QueryLanguage"))
_PROCESSOR = _MACHINE | {"ProcessorConfig"}
_EVERY = frozenset(("Type", "Comment", "QueryLanguage", "InputPath", "OutputPath", "Output", "Assign", "Next", "End"))
_TRIED = frozenset(("Parameters", "ResultSelector", "ResultPath", "Retry", "Catch", "Arguments"))
_FIELDS = {
    "Pass": _EVERY | {"Result", "ResultPath", "Parameters"},
    "Task": _EVERY
    | _TRIED
    | {
        *("Resource", "TimeoutSeconds", "TimeoutSecondsPath"),
        *("HeartbeatSeconds", "HeartbeatSecondsPath", "Credentials"),
    },
    "Choice": (_EVERY - {"Next", "End"}) | {"Choices", "Default"},
    "Wait": _EVERY | {"Seconds", "Timestamp", "SecondsPath", "TimestampPath"},
    "Succeed": _EVERY - {"Next", "End", "Assign"},
    "Fail": frozenset(("Type", "Comment", "QueryLanguage", "Error", "Cause", "ErrorPath", "CausePath")),
    "Parallel": _EVERY | _TRIED | {"Branches"},
    "Map": _EVERY
    | _TRIED
    | {
        *("ItemProcessor", "Iterator", "ItemsPath", "Items", "ItemSelector", "MaxConcurrency", "MaxConcurrencyPath"),
        *("Label", "ItemReader", "ItemBatcher", "ResultWriter"),
        *("ToleratedFailurePercentage", "ToleratedFailurePercentagePath"),
        *("ToleratedFailureCount", "ToleratedFailureCountPath"),
    },
}
_ONLY_JSONATA = frozenset(("Output", "Arguments", "Items"))
_ONLY_JSONPATH = frozenset(
    (
        *("InputPath", "OutputPath", "ResultPath", "Parameters", "ResultSelector", "ItemsPath", "Result"),
        *("TimeoutSecondsPath", "HeartbeatSecondsPath", "SecondsPath", "TimestampPath", "ErrorPath", "CausePath"),
        *("MaxConcurrencyPath", "ToleratedFailurePercentagePath", "ToleratedFailureCountPath"),
    )
)
_PATHS = ("InputPath", "OutputPath", "SecondsPath", "TimestampPath", "ItemsPath", "TimeoutSecondsPath")
_TEMPLATES = ("Parameters", "ResultSelector", "ItemSelector", "Assign")
_VARIABLE = re.compile(r"[A-Za-z_]\w{0,79}")
# A distributed Map's part of its children's ARNs.
_LABEL = re.compile(r"""[^\s?*<>{}\[\]:;,\\|^~$#%&`"\x00-\x1f\x7f-\x9f]{1,40}""")


class Checker:
    """Walks through a definition and collects its problems."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.problems: list[Problem] = []
        self._names: set[str] = set()

    def machine(self, document: Any, at: str, *, jsonata: bool, depth: int, allowed: frozenset[str] = _MACHINE) -> None:
        """Check a definition, a branch or an item processor."""
        if not isinstance(document, dict):
            self.wrong(f"{at}", "Expected an object")
            return
        if depth > _DEEPEST:
            self.problems.append(Problem("TOO_DEEPLY_NESTED", "The states are too deeply nested.", at))
            return
        jsonata = self.language(document, at, jsonata)
        self.known(document, allowed, at)
        self.seconds(document, "TimeoutSeconds", at)
        states = document.get("States")
        if "StartAt" not in document:
            self.required("StartAt", at)
        if not isinstance(states, dict) or not states:
            if states is None:
                self.required("States", at)
            else:
                self.wrong(f"{at}/States", "There must be at least one state")
            return
        for name, fields in states.items():
            self.state(name, fields, f"{at}/States/{name}", jsonata=jsonata, depth=depth)
        self.transitions(document, states, at)

    def transitions(self, document: dict[str, Any], states: dict[str, Any], at: str) -> None:
        """Every target exists, every state can be reached, and there is an end."""
        reached = {document.get("StartAt")}
        if "StartAt" in document and document["StartAt"] not in states:
            self.missing(f"Missing 'StartAt' target: {document['StartAt']}", f"{at}/StartAt")
        for name, fields in states.items():
            for target, key, where in targets(fields):
                reached.add(target)
                if target not in states:
                    self.missing(f"Missing '{key}' target: {target}", f"{at}/States/{name}{where}")
        for name in states:
            if name not in reached:
                self.missing(f'State "{name}" is not reachable.', f"{at}/States/{name}")
        if not any(
            isinstance(fields, dict) and (fields.get("End") or fields.get("Type") in ("Succeed", "Fail", "Choice"))
            for fields in states.values()
        ):
            self.problems.append(Problem("MISSING_END_STATE", "No terminal state found in machine", f"{at}/States"))

    def state(self, name: str, fields: Any, at: str, *, jsonata: bool, depth: int) -> None:
        """Check one state with all that lies in it."""
        if not isinstance(fields, dict):
            self.wrong(at, "Expected an object")
            return
        if not 1 <= len(name) <= 80:
            self.problems.append(Problem("INVALID_STATE_NAME", "State names must have 1 to 80 characters", at))
        if name in self._names:
            self.problems.append(Problem("DUPLICATE_STATE_NAME", f"Duplicate State name: {name}", at))
        self._names.add(name)
        type = fields.get("Type")
        if type not in _FIELDS:
            if type is None:
                self.required("Type", at)
            else:
                self.wrong(f"{at}/Type", f"Value is not valid. Provided: {type}")
            return
        inherited = jsonata
        jsonata = self.language(fields, at, jsonata)
        self.known(fields, _FIELDS[type], at)
        for key in fields:
            if jsonata and key in _ONLY_JSONPATH:
                self.wrong(f"{at}/{key}", f"The field '{key}' is not supported for the QueryLanguage 'JSONata'")
            elif not jsonata and key in _ONLY_JSONATA:
                self.wrong(f"{at}/{key}", f"The field '{key}' is not supported for the QueryLanguage 'JSONPath'")
        if "Next" in _FIELDS[type] and ("Next" in fields) == (fields.get("End") is True):
            self.wrong(at, "Exactly one of the fields 'Next' and 'End' is required")
        if jsonata:
            self.queries({key: value for key, value in fields.items() if key not in _NESTED}, at)
        else:
            self.paths(fields, at)
        self.variables(fields.get("Assign"), f"{at}/Assign")
        getattr(self, f"_{type.lower()}")(fields, at, jsonata)
        for index, branch in enumerate(fields.get("Branches") or ()):
            self.machine(branch, f"{at}/Branches[{index}]", jsonata=inherited, depth=depth + 1)
        for key in ("ItemProcessor", "Iterator"):
            if key in fields:
                self.machine(fields[key], f"{at}/{key}", jsonata=inherited, depth=depth + 1, allowed=_PROCESSOR)

    # By type

    def _pass(self, fields: dict[str, Any], at: str, jsonata: bool) -> None:
        pass

    def _succeed(self, fields: dict[str, Any], at: str, jsonata: bool) -> None:
        pass

    def _fail(self, fields: dict[str, Any], at: str, jsonata: bool) -> None:
        for key in ("Error", "Cause"):
            if key in fields and f"{key}Path" in fields:
                self.wrong(at, f"Only one of the fields '{key}' and '{key}Path' is allowed")
            if key in fields and not isinstance(fields[key], str):
                self.wrong(f"{at}/{key}", "Expected value of type String")
            if (path := fields.get(f"{key}Path")) is not None and not self.is_path_or_function(path):
                self.wrong(f"{at}/{key}Path", "Value is not a valid JSONPath or intrinsic function")

    def _task(self, fields: dict[str, Any], at: str, jsonata: bool) -> None:
        resource = fields.get("Resource")
        if not isinstance(resource, str):
            self.required("Resource", at)
        elif (words := integrations.refusal(resource, self.kind)) is not None:
            self.wrong(f"{at}/Resource", words)
        for key in ("TimeoutSeconds", "HeartbeatSeconds"):
            self.seconds(fields, key, at)
            if key in fields and f"{key}Path" in fields:
                self.wrong(at, f"Only one of the fields '{key}' and '{key}Path' is allowed")
        timeout, heartbeat = fields.get("TimeoutSeconds", 99_999_999), fields.get("HeartbeatSeconds")
        if is_number(timeout) and is_number(heartbeat) and heartbeat >= timeout:
            self.wrong(f"{at}/HeartbeatSeconds", "HeartbeatSeconds must be smaller than TimeoutSeconds")
        self.tries(fields, at)

    def _parallel(self, fields: dict[str, Any], at: str, jsonata: bool) -> None:
        if not isinstance(fields.get("Branches"), list) or not fields["Branches"]:
            self.required("Branches", at)
        self.tries(fields, at)

    def _map(self, fields: dict[str, Any], at: str, jsonata: bool) -> None:
        if ("ItemProcessor" in fields) == ("Iterator" in fields):
            self.wrong(at, "Exactly one of the fields 'ItemProcessor' and 'Iterator' is required")
        if "Parameters" in fields and "ItemSelector" in fields:
            self.wrong(at, "Only one of the fields 'ItemSelector' and 'Parameters' is allowed")
        config = (fields.get("ItemProcessor") or {}).get("ProcessorConfig") or {}
        if config.get("Mode", "INLINE") not in ("INLINE", "DISTRIBUTED"):
            self.wrong(f"{at}/ItemProcessor/ProcessorConfig/Mode", "Value is not valid")
        if config.get("Mode") == "DISTRIBUTED":
            if self.kind == "EXPRESS":
                self.wrong(at, "Distributed Map state is not supported in Express workflows")
            if config.get("ExecutionType") not in ("STANDARD", "EXPRESS"):
                self.required("ExecutionType", f"{at}/ItemProcessor/ProcessorConfig")
            if "Label" in fields and not _LABEL.fullmatch(str(fields["Label"])):
                self.wrong(f"{at}/Label", "Expected 1 to 40 characters without white space, wildcards and brackets")
        else:
            for key in ("ItemReader", "ItemBatcher", "ResultWriter", "Label"):
                if key in fields:
                    self.wrong(f"{at}/{key}", "The field is only supported for a Map state in DISTRIBUTED mode")
        limit = fields.get("MaxConcurrency")
        if limit is not None and not is_query(limit) and not (isinstance(limit, int) and limit >= 0):
            self.wrong(f"{at}/MaxConcurrency", "Expected a non-negative integer")
        self.tries(fields, at)

    def _wait(self, fields: dict[str, Any], at: str, jsonata: bool) -> None:
        given = [key for key in ("Seconds", "Timestamp", "SecondsPath", "TimestampPath") if key in fields]
        if len(given) != 1:
            self.wrong(
                at, "Exactly one of the fields 'Seconds', 'Timestamp', 'SecondsPath' and 'TimestampPath' is required"
            )
        seconds = fields.get("Seconds", 0)
        if not is_query(seconds) and not (isinstance(seconds, int) and 0 <= seconds <= 99_999_999):
            self.wrong(f"{at}/Seconds", "Expected an integer from 0 to 99999999")
        moment = fields.get("Timestamp")
        if moment is not None and not is_query(moment) and not integrations.is_timestamp(moment):
            self.wrong(f"{at}/Timestamp", "Value is not a valid timestamp")

    def _choice(self, fields: dict[str, Any], at: str, jsonata: bool) -> None:
        rules = fields.get("Choices")
        if not isinstance(rules, list) or not rules:
            self.required("Choices", at)
            return
        for index, rule in enumerate(rules):
            where = f"{at}/Choices[{index}]"
            if not isinstance(rule, dict) or not isinstance(rule.get("Next"), str):
                self.required("Next", where)
                continue
            self.variables(rule.get("Assign"), f"{where}/Assign")
            if jsonata:
                condition = rule.get("Condition")
                if not isinstance(condition, bool) and not is_query(condition):
                    self.wrong(f"{where}/Condition", "Expected a JSONata expression or a boolean")
            else:
                self.template(rule.get("Assign"), f"{where}/Assign")
                self.rule(rule, where)

    def rule(self, rule: Any, at: str) -> None:
        """A comparison, or And, Or and Not of some."""
        if not isinstance(rule, dict):
            self.wrong(at, "Expected an object")
            return
        operators = [key for key in rule if key not in ("Next", "Comment", "Assign", "Variable", "Output")]
        if len(operators) != 1 or operators[0] not in (*COMPARATORS, "And", "Or", "Not"):
            self.wrong(at, "Exactly one comparison operator is required")
        elif (key := operators[0]) in ("And", "Or"):
            if not isinstance(rule[key], list) or not rule[key]:
                self.wrong(f"{at}/{key}", "Expected a list of rules")
                return
            for index, inner in enumerate(rule[key]):
                self.rule(inner, f"{at}/{key}[{index}]")
        elif key == "Not":
            self.rule(rule[key], f"{at}/Not")
        else:
            if not self.is_path(rule.get("Variable")):
                self.wrong(f"{at}/Variable", "Value is not a Reference Path")
            if key.endswith("Path"):
                if not self.is_path(rule[key]):
                    self.wrong(f"{at}/{key}", "Value is not a Reference Path")
            elif not COMPARATORS[key].takes(rule[key]):
                self.wrong(f"{at}/{key}", f"Value is not valid for {key}")

    # Parts

    def tries(self, fields: dict[str, Any], at: str) -> None:
        """Retry and Catch."""
        for kind in ("Retry", "Catch"):
            entries = fields.get(kind, [])
            if not isinstance(entries, list):
                self.wrong(f"{at}/{kind}", "Expected a list")
                continue
            for index, entry in enumerate(entries):
                where = f"{at}/{kind}[{index}]"
                names = entry.get("ErrorEquals") if isinstance(entry, dict) else None
                if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
                    self.required("ErrorEquals", where)
                    continue
                if "States.ALL" in names and (len(names) > 1 or index < len(entries) - 1):
                    self.wrong(where, "States.ALL must appear alone and at the end")
                getattr(self, f"_{kind.lower()}")(entry, where)

    def _retry(self, entry: dict[str, Any], at: str) -> None:
        for key, least in (("IntervalSeconds", 1), ("MaxAttempts", 0), ("BackoffRate", 1), ("MaxDelaySeconds", 1)):
            value = entry.get(key, least)
            if not is_number(value) or value < least or (key != "BackoffRate" and not isinstance(value, int)):
                self.wrong(f"{at}/{key}", f"Expected a number of at least {least}")
        if entry.get("JitterStrategy", "NONE") not in ("FULL", "NONE"):
            self.wrong(f"{at}/JitterStrategy", "Value is not valid")

    def _catch(self, entry: dict[str, Any], at: str) -> None:
        if not isinstance(entry.get("Next"), str):
            self.required("Next", at)
        self.variables(entry.get("Assign"), f"{at}/Assign")
        if (path := entry.get("ResultPath")) is not None and not self.is_reference(path):
            self.wrong(f"{at}/ResultPath", "Value is not a Reference Path")

    def paths(self, fields: dict[str, Any], at: str) -> None:
        """The paths and templates of a JSONPath state."""
        for key in _PATHS:
            value = fields.get(key)
            if value is not None and not self.is_path_or_function(value):
                self.wrong(f"{at}/{key}", "Value is not a valid JSONPath")
        if (path := fields.get("ResultPath")) is not None and not self.is_reference(path):
            self.wrong(f"{at}/ResultPath", "Value is not a Reference Path")
        for key in _TEMPLATES:
            if key in fields:
                self.template(fields[key], f"{at}/{key}")

    def template(self, value: Any, at: str) -> None:
        """Fields whose names end in ``.$`` hold paths or functions."""
        if isinstance(value, list):
            for index, item in enumerate(value):
                self.template(item, f"{at}[{index}]")
        if not isinstance(value, dict):
            return
        for key, item in value.items():
            if key.endswith(".$") and not self.is_path_or_function(item):
                words = f"The value for the field '{key}' must be a valid JSONPath or a valid intrinsic function call"
                self.wrong(f"{at}/{key}", words)
            elif not key.endswith(".$"):
                self.template(item, f"{at}/{key}")

    def queries(self, value: Any, at: str) -> None:
        """Every JSONata expression in a value."""
        if isinstance(value, dict):
            for key, item in value.items():
                self.queries(item, f"{at}/{key}")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.queries(item, f"{at}[{index}]")
        elif is_query(value):
            try:
                compile_query(value)
            except BadQuery as error:
                self.wrong(at, f"The JSONata expression is not valid: {error}")

    def variables(self, assign: Any, at: str) -> None:
        """The names that Assign gives values."""
        if assign is None:
            return
        if not isinstance(assign, dict):
            self.wrong(at, "Expected an object")
            return
        for key in assign:
            name = key.removesuffix(".$")
            if _VARIABLE.fullmatch(name) is None or name == "states":
                self.wrong(f"{at}/{key}", f"Variable name '{name}' is not valid")

    def language(self, fields: dict[str, Any], at: str, jsonata: bool) -> bool:
        given = fields.get("QueryLanguage", "JSONata" if jsonata else "JSONPath")
        if given not in ("JSONata", "JSONPath"):
            self.wrong(f"{at}/QueryLanguage", f"Value is not valid. Provided: {given}")
        elif jsonata and given == "JSONPath":
            self.wrong(
                f"{at}/QueryLanguage",
                "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine",
            )
        return bool(given == "JSONata")

    def seconds(self, fields: dict[str, Any], key: str, at: str) -> None:
        value = fields.get(key, 1)
        if not is_query(value) and not (
            isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 99_999_999
        ):
            self.wrong(f"{at}/{key}", "Expected an integer from 1 to 99999999")

    def known(self, fields: dict[str, Any], allowed: frozenset[str], at: str) -> None:
        for key in fields:
            if key not in allowed:
                self.wrong(f"{at}/{key}", "Field is not supported")

    def is_path(self, value: Any) -> bool:
        try:
            return isinstance(value, str) and compile_path(value) is not None
        except BadPath:
            return False

    def is_reference(self, value: Any) -> bool:
        try:
            return isinstance(value, str) and compile_reference(value) is not None
        except BadPath:
            return False

    def is_path_or_function(self, value: Any) -> bool:
        if not isinstance(value, str) or not value.startswith("States."):
            return self.is_path(value)
        try:
            return compile_intrinsic(value) is not None
        except BadIntrinsic:
            return False

    def wrong(self, location: str, message: str) -> None:
        self.problems.append(Problem(_SCHEMA, message, location))

    def required(self, field: str, location: str) -> None:
        self.wrong(location, f"These fields are required: [{field}]")

    def missing(self, message: str, location: str) -> None:
        self.problems.append(Problem("MISSING_TRANSITION_TARGET", message, location))


_NESTED = ("Branches", "ItemProcessor", "Iterator")


def targets(fields: Any) -> list[tuple[str, str, str]]:
    """The states to which a state can lead, each with the field that says so and its place."""
    if not isinstance(fields, dict):
        return []
    found = [(fields[key], key, f"/{key}") for key in ("Next", "Default") if isinstance(fields.get(key), str)]
    for kind in ("Choices", "Catch"):
        entries = fields.get(kind)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict) and isinstance(entry.get("Next"), str):
                found.append((entry["Next"], "Next", f"/{kind}[{index}]/Next"))
    return found
