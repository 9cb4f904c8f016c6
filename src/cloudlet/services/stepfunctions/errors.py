"""Errors of executions, and those of the API whose words are fixed."""

from __future__ import annotations

from cloudlet.errors import AwsError

RUNTIME = "States.Runtime"
EVALUATION = "States.QueryEvaluationError"
# Nothing can catch these by States.ALL.
_NEVER_ALL = frozenset(("States.DataLimitExceeded",))


class StateFailed(Exception):
    """A state came to an error, which Retry and Catch may handle."""

    def __init__(self, error: str, cause: str = "", location: str = "") -> None:
        """``location`` is the field whose evaluation has failed."""
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause
        self.location = location
        self.noted = False  # in the history, as what an evaluation has failed with


def matches(error: str, names: list[str]) -> bool:
    """Whether an error is one of ErrorEquals. States.Runtime is what nothing takes: it always ends the execution."""
    if error == RUNTIME:
        return False
    for name in names:
        if name == error:
            return True
        if name == "States.ALL" and error not in _NEVER_ALL:
            return True
        if name == "States.TaskFailed" and error not in _NEVER_ALL and error != "States.Timeout":
            return True
        if name == "States.Timeout" and error == "States.HeartbeatTimeout":
            return True
    return False


def no_machine(arn: str) -> AwsError:
    """The state machine is not there."""
    return AwsError("StateMachineDoesNotExist", f"State Machine Does Not Exist: '{arn}'")


def no_execution(arn: str) -> AwsError:
    """The execution is not there."""
    return AwsError("ExecutionDoesNotExist", f"Execution Does Not Exist: '{arn}'")


def invalid_arn(arn: str, reason: str = "Invalid Arn") -> AwsError:
    """It is no ARN of the kind that the operation takes."""
    return AwsError("InvalidArn", f"Invalid Arn: '{reason}: {arn}'")


def invalid_name(name: str) -> AwsError:
    """A name with characters that names may not have."""
    return AwsError("InvalidName", f"Invalid Name: '{name}'")


def task_gone() -> AwsError:
    """The task of a token is over."""
    return AwsError("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")


def invalid_token() -> AwsError:
    """The text is no token."""
    return AwsError("InvalidToken", "Invalid Token: 'Invalid token'")
