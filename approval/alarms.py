"""Alerts in the log: one warning for each mark of a meter that a call has reached."""

import logging
from typing import Final

from approval.core.lifecycle import Change

log: Final = logging.getLogger(__name__)
# A service that runs has set its log up. Commands that rehearse have none, and stay quiet.
log.addHandler(logging.NullHandler())


def sound(change: Change) -> None:
    """Log what the trail was told of meters: which one, whose, how full. Call it once committed."""
    for told in change.alerts:
        log.warning(
            "meter %(meter)s has reached %(percent)s %% of its limit",
            told.facts,
            extra={"call": told.subject, **told.facts},
        )
