"""The pattern language of EventBridge, of SNS filter policies and of Lambda's filter criteria."""

from cloudlet.services.patterns.language import Pattern, PatternError, compile_pattern
from cloudlet.services.patterns.policies import FilterPolicy, compile_filter_policy

__all__ = ["FilterPolicy", "Pattern", "PatternError", "compile_filter_policy", "compile_pattern"]
