"""Groups of commands: grants, and freezes. Nothing heavy is imported before one runs."""

from typing import Annotated

import typer

from approval.cli.options import DEFAULT, AsJson, Claimed, ConfigFile, TokenFile
from approval.cli.orders import GrantOrder, Proof
from approval.cli.terminal import reporting

grants = typer.Typer(help="What agents may do without asking: list, issue, revoke.")
freezes = typer.Typer(help="Tools that spent more than was approved: list, lift.")


@freezes.callback(invoke_without_command=True)
def freezes_list(
    context: typer.Context, *, config: ConfigFile = DEFAULT, as_json: AsJson = False
) -> None:
    """List the tools that spend nothing until somebody has looked into an overrun."""
    if context.invoked_subcommand is not None:
        return
    with reporting():
        from approval.cli import freezes as commands  # noqa: PLC0415 - heavy

        commands.show(config, as_json=as_json)


@freezes.command("lift")
def freezes_lift(
    call_id: Annotated[str, typer.Argument(metavar="ID", help="The call that overran.")],
    *,
    evidence: Annotated[str, typer.Option(help="What you found.")],
    claimed: Claimed = None,
    token_file: TokenFile = None,
    config: ConfigFile = DEFAULT,
) -> None:
    """Let the tool that a call froze spend again; takes the right to settle."""
    with reporting():
        from approval.cli import freezes as commands  # noqa: PLC0415 - heavy

        proof = Proof(claimed=claimed, token_file=token_file)
        commands.lift(config, call_id, proof, evidence)


@grants.callback(invoke_without_command=True)
def grants_list(
    context: typer.Context, *, config: ConfigFile = DEFAULT, as_json: AsJson = False
) -> None:
    """List the grants: those of the configuration, and those that were issued."""
    if context.invoked_subcommand is not None:
        return
    with reporting():
        from approval.cli import grants as commands  # noqa: PLC0415 - heavy

        commands.show(config, as_json=as_json)


@grants.command("issue")
def grants_issue(  # noqa: PLR0913 - each is an option
    agent: Annotated[str, typer.Argument(metavar="AGENT")],
    *,
    tool: Annotated[list[str], typer.Option(help="A tool's name or a glob; may repeat.")],
    upstream: Annotated[str | None, typer.Option(help="Only there.")] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(metavar="JSON", help='{"path": …, "op": …, "value": …}; may repeat.'),
    ] = None,
    max_per_call: Annotated[str | None, typer.Option(metavar="MONEY", help='"2.00 USD".')] = None,
    total: Annotated[str | None, typer.Option(metavar="MONEY", help="Over all calls.")] = None,
    uses: Annotated[int | None, typer.Option(min=1, help="How many calls.")] = None,
    lasts: Annotated[str | None, typer.Option("--for", metavar="24h", help="How long.")] = None,
    reason: Annotated[str, typer.Option(help="Why: for the list and the trail.")] = "",
    claimed: Claimed = None,
    token_file: TokenFile = None,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Let an agent pass a gate without asking, within bounds; for admins."""
    with reporting():
        from approval.cli import grants as commands  # noqa: PLC0415 - heavy

        order = GrantOrder(
            agent=agent,
            tools=tuple(tool),
            upstream=upstream,
            conditions=tuple(condition or ()),
            max_per_call=max_per_call,
            total=total,
            uses=uses,
            lasts=lasts,
            reason=reason,
        )
        proof = Proof(claimed=claimed, token_file=token_file)
        commands.issue(config, order, proof, as_json=as_json)


@grants.command("revoke")
def grants_revoke(
    grant: Annotated[str, typer.Argument(metavar="ID")],
    *,
    claimed: Claimed = None,
    token_file: TokenFile = None,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Take a grant back at once: nothing more is let through under it."""
    with reporting():
        from approval.cli import grants as commands  # noqa: PLC0415 - heavy

        proof = Proof(claimed=claimed, token_file=token_file)
        commands.revoke(config, grant, proof, as_json=as_json)
