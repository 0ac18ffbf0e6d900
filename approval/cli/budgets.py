"""The command on budgets: what is spent, held and left of every meter, and until when."""

from pathlib import Path

from approval.budgets import Pot, document
from approval.cli.session import run, session
from approval.cli.terminal import say, table, write_json
from approval.core.meters import shown


def budgets(config: Path, *, as_json: bool) -> None:
    """List every meter of the policies, for everybody who draws on it."""
    run(_budgets(config, as_json=as_json))


async def _budgets(config: Path, *, as_json: bool) -> None:
    async with session(config) as here:
        pots = await here.service.budgets.pots()
    if as_json:
        write_json({"budgets": [document(pot) for pot in pots]})
    elif not pots:
        say("No policy has a meter.")
    else:
        columns = ("METER", "WHOSE", "LEFT", "SPENT", "HELD", "UNTIL")
        table(columns, [_row(pot) for pot in pots])


def _row(pot: Pot) -> tuple[str, ...]:
    until = pot.until.strftime("%Y-%m-%d %H:%M UTC") if pot.until else "-"
    return (pot.meter.name, pot.whose, pot.words, shown(pot.spent), shown(pot.held), until)
