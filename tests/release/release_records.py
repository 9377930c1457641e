"""Releases `A` to `D` for a record, each of an image of its own."""

from datetime import UTC, datetime

from release.history import Event, Release


def release(letter: str, event: Event = "released") -> Release:
    return Release(
        at=datetime(2026, 1, 1, tzinfo=UTC),
        event=event,
        repository="registry.example:5000/frontrow",
        tag=f"code{letter}-c7-t8",
        digest=f"sha256:{letter * 64}",
        code=f"code{letter}",
        control="activity-ranker/7",
        treatment="activity-ranker/8",
        verdict="FAIL" if event == "refused" else "PASS",
        reason="said a person",
    )


A, B, C, D = (release(letter) for letter in "abcd")
