"""A template's Rules: what must hold between its parameters."""

from __future__ import annotations

from typing import Any

from cloudlet.stacks.errors import invalid
from cloudlet.stacks.intrinsics import Context, Resolver


def check(rules: dict[str, Any], context: Context) -> None:
    """Judge every rule's assertions. Raises ValidationError with the descriptions of those that do not hold."""

    def lookup(name: str, attribute: str | None) -> Any:
        raise invalid(f"Template format error: Unresolved dependencies [{name}]. Cannot reference resources in Rules")

    resolver = Resolver(context, lookup)
    broken = []
    for name, rule in rules.items():
        if not isinstance(rule, dict) or not isinstance(rule.get("Assertions"), list):
            raise invalid(f"Template format error: Rule {name} must contain a list of Assertions.")
        if "RuleCondition" in rule and resolver.resolve(rule["RuleCondition"]) is not True:
            continue
        for assertion in rule["Assertions"]:
            if not isinstance(assertion, dict) or "Assert" not in assertion:
                raise invalid(f"Template format error: Every assertion of rule {name} must contain an Assert member.")
            if resolver.resolve(assertion["Assert"]) is not True:
                broken.append(str(assertion.get("AssertDescription", f"the assertion of rule {name} does not hold")))
    if broken:
        raise invalid(f"Template error: the following rules are not satisfied: {'; '.join(broken)}")
