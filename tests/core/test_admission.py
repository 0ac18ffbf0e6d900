"""What a call demands meets what the store holds."""

from datetime import timedelta

from approval.core import admission
from approval.core.refusals import Refusal


def test_a_wait_is_told_in_whole_seconds_and_never_too_short() -> None:
    why = Refusal(code="rate", text="full", retry_after=timedelta(seconds=1, microseconds=1))
    refused = admission.no_room(why)
    assert (refused.code, refused.retry_after, refused.retryable) == ("rate", 2, True)
    assert admission.no_room(Refusal(code="limit", text="full")).retry_after is None
