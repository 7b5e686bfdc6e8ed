"""What fails again and again is one line of the log."""

from structlog.testing import capture_logs

from overlayd.agent.runtime.logs import Complaint


def test_each_reason_is_logged_once_until_it_is_over() -> None:
    complaint = Complaint("it cannot be written")
    with capture_logs() as logs:
        for reason in ("full", "full", "read-only", "full"):
            complaint.because(reason, file="x")
        complaint.over()
        complaint.because("full", file="x")
    assert [line["reason"] for line in logs] == ["full", "read-only", "full", "full"]
    assert {(line["event"], line["file"]) for line in logs} == {("it cannot be written", "x")}
