"How durations are printed."

from __future__ import annotations

import pytest

from boathouse.workspace.durations import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0.0s"),
        (4.24, "4.2s"),
        (59.94, "59.9s"),
        (59.96, "1m00s"),
        (65, "1m05s"),
        (1316.2, "21m56s"),
        (3599.6, "1h00m00s"),
        (3723, "1h02m03s"),
    ],
)
def test_a_duration_has_tenths_below_a_minute_and_whole_seconds_above(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text
