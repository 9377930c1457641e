"""What the OpenAPI document says in words, because JSON Schema cannot, told to schemathesis."""

import schemathesis
from schemathesis import Case, HookContext


@schemathesis.hook
def map_case(context: HookContext, case: Case) -> Case:
    """Let a good request name no id twice, over both forms of a candidate."""
    if case.meta and case.meta.generation.mode.is_positive and isinstance(case.body, dict):
        by_id = {one if isinstance(one, str) else one["id"]: one for one in case.body["candidates"]}
        case.body["candidates"] = list(by_id.values())
    return case


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Send no header that the document lacks: HTTP lets anybody add one, so there is no fault to find in it.

    Schemathesis knows that, but not beside a documented header that is an integer.
    """
    documented = {"content-type", *(header.name.lower() for header in case.operation.headers)}
    return {name.lower() for name in case.headers} <= documented
