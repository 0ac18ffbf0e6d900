"""One tree of errors, by what the caller would do differently."""


class ApprovalError(Exception):
    """Anything this project raises on purpose."""


class Unreadable(ApprovalError):
    """A message, document or value that two readers could read differently, or none at all.

    `reason` is a short stable code; the text says what and where.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Misconfigured(ApprovalError):
    """Files that must not be served from: every problem at once, each with file, key and remedy."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NotFound(ApprovalError):
    """No such thing, or none that the asker may know of: the two are not told apart."""


class Forbidden(ApprovalError):
    """The asker is known and may not do this."""


class Conflict(ApprovalError):
    """The call is no longer in a state that takes this."""


class StoreUnavailable(ApprovalError):
    """Nothing could be written or read. Whatever was asked did not happen; try again later."""


class Refused(ApprovalError):
    """A call that may not be admitted now, for a reason outside the policy (caps, keys)."""

    def __init__(self, code: str, text: str, *, retryable: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.retryable = retryable


class NoRoom(Refused):
    """A call for which a limit has no room.

    It is `retryable` where waiting helps, and `retry_after` says for how many seconds, where that
    is known. `limit` is the document and the name of the limit, where one is named.
    """

    def __init__(
        self,
        code: str,
        text: str,
        *,
        retry_after: int | None = None,
        retryable: bool = False,
        limit: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(code, text, retryable=retryable or retry_after is not None)
        self.retry_after = retry_after
        self.limit = limit


class NeverSent(ApprovalError):
    """Proven: not one byte of the call reached the upstream."""


class AnswerLost(ApprovalError):
    """Bytes may have left and no readable answer came: the outcome is not known."""
