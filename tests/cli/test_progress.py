"""The progress display's thread, with a job that the test moves."""

from __future__ import annotations

import threading

import pytest

from kit.fakes.snapshots import snapshot
from replicator.cli.output import Output
from replicator.cli.progress import Mode, Progress
from replicator.process import StopSignal
from replicator.report.faults import fault
from replicator.report.model import Snapshot


@pytest.mark.parametrize("mode", ["none", "plain"])
def test_what_fails_right_before_the_end_is_named(
    mode: Mode, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends before the display looks again."""
    current = snapshot(1, 0)
    looked = threading.Event()

    def now() -> Snapshot:
        looked.set()
        return current

    output = Output(json_result=False, json_log=False, color=False)
    with Progress(now, StopSignal(), output, mode=mode, following=False, title="t"):
        assert looked.wait(10)
        lost = fault("unreachable", "target", "here", "orders", 3, "it has no leader")
        current = snapshot(1, 0, faults=[lost])
    assert capsys.readouterr().err.count("orders-3 on target cluster here: it has no leader") == 1
