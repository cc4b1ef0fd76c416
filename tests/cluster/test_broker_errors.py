"""Error codes: Kafka's names, what is worth another try, and what a user is told."""

from __future__ import annotations

import pytest
from kio.schema.errors import ErrorCode

from replicator.cluster import Denied, Unreachable
from replicator.cluster import errors as broker_errors
from replicator.cluster.errors import BrokerError, broker_failure
from replicator.errors import ClusterError, ExitCode


@pytest.mark.parametrize(
    ("code", "name", "temporary"),
    [
        (-1, "UNKNOWN_SERVER_ERROR", False),
        (0, "NONE", False),
        (3, "UNKNOWN_TOPIC_OR_PARTITION", False),
        (5, "LEADER_NOT_AVAILABLE", True),
        (6, "NOT_LEADER_OR_FOLLOWER", True),
        (7, "REQUEST_TIMED_OUT", True),
        (14, "COORDINATOR_LOAD_IN_PROGRESS", True),
        (15, "COORDINATOR_NOT_AVAILABLE", True),
        (16, "NOT_COORDINATOR", True),
        (29, "TOPIC_AUTHORIZATION_FAILED", False),
        (45, "OUT_OF_ORDER_SEQUENCE_NUMBER", False),
        (74, "FENCED_LEADER_EPOCH", True),
        (75, "UNKNOWN_LEADER_EPOCH", True),
        (78, "OFFSET_NOT_AVAILABLE", True),
        (100, "UNKNOWN_TOPIC_ID", False),
        (31000, "UNKNOWN_ERROR_CODE_31000", False),
    ],
)
def test_names_and_what_may_pass(code: int, name: str, temporary: bool) -> None:
    assert broker_errors.lookup(code).name == name
    assert broker_errors.is_temporary(code) is temporary


def test_a_missing_topic_may_appear_only_if_it_was_just_created() -> None:
    assert broker_errors.is_temporary(3, just_created=True)
    assert broker_errors.is_temporary(100, just_created=True)
    assert not broker_errors.is_temporary(29, just_created=True)


@pytest.mark.parametrize("code", [int(code) for code in ErrorCode if code] + [31000])
def test_every_error_says_what_where_and_what_to_do(code: int) -> None:
    error = broker_failure(
        code, "target", "a:9092 (id)", "read t-0", acl="READ on Topic t", detail="because"
    )
    assert error.message.startswith("target cluster a:9092 (id): cannot read t-0: ")
    assert f"({code})" in error.message
    assert error.message.endswith(": because")
    assert error.hint
    assert error.side == "target"
    assert error.exit_code == ExitCode.TARGET
    if broker_errors.is_denied(code):
        assert isinstance(error, Denied)
        assert error.hint == "grant READ on Topic t to the user of this client"
    else:
        assert isinstance(error, BrokerError)
        assert error.code == code
        assert error.name in error.message


def test_the_side_decides_the_exit_code() -> None:
    error = broker_failure(29, "source", "a", "read", acl="READ on Topic t")
    assert error.side == "source"
    assert error.exit_code == ExitCode.SOURCE


def test_the_family_names_the_side() -> None:
    """The family is what ``-o json`` has in ``error``."""
    assert ClusterError("target", "x").family == "TargetError"
    assert Unreachable("source", "x").family == "SourceUnreachable"
    assert broker_failure(3, "target", "a", "read", acl="x").family == "TargetBrokerError"


def test_the_table_is_kafka_s() -> None:
    """Every code that kio knows, with Kafka's name and whether its clients try again."""
    ours = {row.code: (row.name, row.retriable) for row in broker_errors.TABLE.values()}
    assert ours == {int(code): (code.name.upper(), code.retriable) for code in ErrorCode}


def test_constants_are_named_as_in_the_table() -> None:
    found = {name: value for name, value in vars(broker_errors).items() if type(value) is int}
    assert found == {broker_errors.lookup(code).name: code for code in found.values()}


def test_authorization_errors_are_those_kafka_names_so() -> None:
    named = {row.code for row in broker_errors.TABLE.values() if "AUTHORIZATION" in row.name}
    assert {code for code in broker_errors.TABLE if broker_errors.is_denied(code)} == named


def test_no_row_has_twice_the_same_code() -> None:
    assert len(broker_errors.TABLE) == len(broker_errors._ROWS)
