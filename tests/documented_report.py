"""A test run ends with the documented commands that it did not run, and why (tests/test_documented_commands.py)."""

import pytest

NOT_RUN = "documented and not run"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports: list[pytest.TestReport] = terminalreporter.stats.get("passed", [])
    lines = [str(line) for report in reports for name, line in report.user_properties if name == NOT_RUN]
    if lines:
        terminalreporter.write_sep("=", NOT_RUN)
    for line in lines:
        terminalreporter.write_line(line)
