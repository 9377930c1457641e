"""Each attack of the table as a check: a clean answer of the allowed kind, and a server that goes on."""

from functools import partial

from benchmarks.conformance.attacks import ANYTHING, ATTACKS, CLOSING, Attack
from benchmarks.conformance.finding import Check, Finding, Subject, failed, judged
from benchmarks.conformance.wire import Exchange, exchange, seen
from benchmarks.errors import Unreachable

DEFECT = 500
NOT_FOR_CALLERS = (b"Traceback (most recent call last)", b'File "/')


def wire_checks() -> list[Check]:
    return [
        Check(f"wire: {group}", attack.name, partial(_attack, attack))
        for group, attacks in ATTACKS.items()
        for attack in attacks
    ]


def _attack(attack: Attack, subject: Subject) -> Finding:
    found = exchange(subject.target, [attack.make(subject.ordinary)], hang_up=attack.hang_up)
    finding = judge(attack, found)
    try:
        status = subject.ask(0).status
    except Unreachable as error:
        return failed(f"{finding.seen}; an ordinary request after it: {error}")
    return finding if status == 200 else failed(f"{finding.seen}; an ordinary request after it: {status}")


def judge(attack: Attack, found: Exchange) -> Finding:
    """Hold what came back against what an attack may get."""
    statuses = found.statuses
    succeeded = [status for status in statuses if status < 300]
    right = (
        not found.garbage
        and DEFECT not in statuses
        and not any(word in body for body in found.bodies for word in NOT_FOR_CALLERS)
    )
    if attack.allowed == ANYTHING:
        # One success, and a refusal of whatever followed it on the connection.
        right = right and len(succeeded) <= 1 and len(statuses) <= 2
    else:
        silent = attack.hang_up and not statuses
        right = right and (len(statuses) == 1 or silent) and found.closed
        right = right and (attack.allowed == CLOSING or not succeeded)
    return judged(seen(found), right=right)
