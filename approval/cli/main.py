"""Every command and its options. Nothing heavy is imported before a command runs."""

from pathlib import Path
from typing import Annotated

import typer

from approval.cli.groups import freezes, grants
from approval.cli.options import (
    DEFAULT,
    AsJson,
    CallText,
    Claimed,
    ConfigFile,
    Digest,
    Evidence,
    Name,
    TokenFile,
    Yes,
)
from approval.cli.orders import Dialect, Foreign, Order, Proof, Word
from approval.cli.terminal import Exit, is_person, reporting
from approval.core.call import Choice

app = typer.Typer(
    name="approval",
    help="Hold an AI agent's risky tool calls until a person says yes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
audit = typer.Typer(help="Check and read the trail.", no_args_is_help=True)
token = typer.Typer(help="Issue and take back tokens and login links.", no_args_is_help=True)
database = typer.Typer(help="The database: schema and copies.", no_args_is_help=True)
app.add_typer(audit, name="audit")
app.add_typer(token, name="token")
app.add_typer(grants, name="grants")
app.add_typer(freezes, name="freezes")
app.add_typer(database, name="db")


@app.command()
def serve(
    *,
    config: ConfigFile = DEFAULT,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the service until it is stopped."""
    with reporting():
        from approval.cli import service  # noqa: PLC0415 - heavy

        service.serve(config, verbose=verbose)


@app.command()
def demo(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Decide by itself.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
) -> None:
    """Watch an agent try to buy a phone number, and decide."""
    with reporting():
        from approval.demo import story  # noqa: PLC0415 - heavy

        story.show(by_itself=yes, port=port)


@app.command()
def check(
    *,
    config: ConfigFile = DEFAULT,
    offline: Annotated[bool, typer.Option("--offline", help="Start no upstream.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with the configuration, its policies and its upstreams."""
    with reporting():
        from approval.cli import service  # noqa: PLC0415 - heavy

        service.check(config, offline=offline, as_json=as_json)


@app.command("import")
def import_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .json, .yaml or .yml file.")],
    *,
    dialect: Annotated[Dialect, typer.Option(help="Whose policy it is.")] = Dialect.AUTO,
    promote: Annotated[
        str,
        typer.Option(metavar="TEXT", help="Hold for a person what is denied with just this text."),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="A new .toml or .json file; otherwise TOML, printed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a policy of Intercept or PolicyLayer into ours; it never allows more.

    What became of every rule is printed. What cannot be carried over is an error,
    and nothing is written.
    """
    with reporting():
        from approval.cli import policies  # noqa: PLC0415 - heavy

        foreign = Foreign(dialect=dialect, promote=promote)
        policies.import_policy(file, foreign, out, as_json=as_json)


@app.command()
def explain(
    call: Annotated[
        Path,
        typer.Argument(
            metavar="CALL.json",
            help='{"agent", "upstream", "tool", "arguments"}; - is standard input.',
        ),
    ],
    *,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Judge one call and show every step. Nothing is sent and nobody is asked.

    Exit code 0: the call is allowed; 3: it waits for a person; 4: it is denied;
    2: it cannot be judged, for a file is missing or wrong.
    """
    with reporting(failed=Exit.USAGE):
        from approval.cli import policies  # noqa: PLC0415 - heavy

        policies.explain(config, call, as_json=as_json)


@app.command()
def lint(
    *,
    config: ConfigFile = DEFAULT,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find what loads and is hardly meant; exit code 1 when there are errors."""
    with reporting():
        from approval.cli import policies  # noqa: PLC0415 - heavy

        policies.lint(config, strict=strict, as_json=as_json)


@app.command("test")
def rehearse(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SUITE.tests.toml]...",
            help="Files of cases; those beside the configuration when none is named.",
        ),
    ] = None,
    *,
    config: ConfigFile = DEFAULT,
    least_coverage: Annotated[
        float,
        typer.Option("--least-coverage", metavar="PERCENT", min=0, max=100),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Play the tests of the policies: real judge, real limits, a clock of the case's own.

    Nothing is sent and nobody is asked. Exit code 1 when a step goes otherwise than its case says,
    or fewer rules and limits are met than --least-coverage asks for.
    """
    with reporting():
        from approval.cli import rehearsal  # noqa: PLC0415 - heavy

        rehearsal.play(config, files or [], least_coverage=least_coverage, as_json=as_json)


@app.command()
def backtest(
    policy: Annotated[Path, typer.Argument(metavar="POLICY.toml", help="The policy to try.")],
    *,
    since: Annotated[str, typer.Option(metavar="SPAN", help="How far back: 24h, 30d.")] = "30d",
    upstream: Annotated[
        str, typer.Option(metavar="NAME", help="Whose policy it is; needless when there is one.")
    ] = "",
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Replay recorded calls under another policy: what would be allowed, held or denied instead.

    Calls are replayed with their clock, their endings and what they took, against the new limits;
    nothing is sent. Only calls that were kept can be: those that people were asked about, and those
    that spent. Denied calls were not kept, and grants that were issued are not given again.
    """
    with reporting():
        from approval.cli import rehearsal  # noqa: PLC0415 - heavy

        rehearsal.backtest_policy(
            config, policy, upstream=upstream, since=rehearsal.span(since), as_json=as_json
        )


@app.command()
def pending(
    *,
    config: ConfigFile = DEFAULT,
    state: Annotated[list[str] | None, typer.Option(help="Another state; may repeat.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 200,
    as_json: AsJson = False,
) -> None:
    """List the calls that wait for a person."""
    with reporting():
        from approval.cli import calls  # noqa: PLC0415 - heavy

        calls.pending(config, tuple(state or ()), limit, as_json=as_json)


@app.command()
def show(call: CallText, *, config: ConfigFile = DEFAULT, as_json: AsJson = False) -> None:
    """Show one call with its exact arguments."""
    with reporting():
        from approval.cli import calls  # noqa: PLC0415 - heavy

        calls.show(config, call, as_json=as_json)


@app.command()
def budgets(*, config: ConfigFile = DEFAULT, as_json: AsJson = False) -> None:
    """List what is spent, held and left of every meter."""
    with reporting():
        from approval.cli import budgets as command  # noqa: PLC0415 - heavy

        command.budgets(config, as_json=as_json)


@app.command()
def approve(  # noqa: PLR0913 - each is an option
    call: CallText,
    *,
    amount: Annotated[
        str | None,
        typer.Option(metavar="MONEY", help='What it costs, "12.34 USD", where you are asked.'),
    ] = None,
    reason: Annotated[str, typer.Option(help="A word for the agent and the trail.")] = "",
    grant: Annotated[
        str,
        typer.Option(metavar="GRANT", help='More like it: "10 uses within 24h up to 20.00 USD".'),
    ] = "",
    digest: Digest = None,
    yes: Yes = False,
    claimed: Claimed = None,
    token_file: TokenFile = None,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Show a call, then approve exactly that one."""
    with reporting():
        from approval.cli import calls  # noqa: PLC0415 - heavy

        order = Order(
            call=call,
            choice=Choice.APPROVE,
            reason=reason,
            digest=digest,
            ask=not yes and is_person(),
            amount=amount,
            grant=grant,
        )
        proof = Proof(claimed=claimed, token_file=token_file)
        calls.decide(config, order, proof, as_json=as_json)


@app.command()
def reject(  # noqa: PLR0913 - each is an option
    call: CallText,
    *,
    reason: Annotated[str, typer.Option(help="Why: the agent is told.")] = "",
    digest: Digest = None,
    claimed: Claimed = None,
    token_file: TokenFile = None,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Reject a call, or take an approval back before it runs."""
    with reporting():
        from approval.cli import calls  # noqa: PLC0415 - heavy

        order = Order(call=call, choice=Choice.REJECT, reason=reason, digest=digest)
        proof = Proof(claimed=claimed, token_file=token_file)
        calls.decide(config, order, proof, as_json=as_json)


@app.command("run")
def run_now(  # noqa: PLR0913 - each is an option
    call: CallText,
    *,
    digest: Digest = None,
    yes: Yes = False,
    claimed: Claimed = None,
    token_file: TokenFile = None,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Run an approved call now that waits for its agent, which has gone."""
    with reporting():
        from approval.cli import calls  # noqa: PLC0415 - heavy

        order = Order(call=call, choice=Choice.APPROVE, digest=digest, ask=not yes and is_person())
        proof = Proof(claimed=claimed, token_file=token_file)
        calls.release(config, order, proof, as_json=as_json)


@app.command()
def settle(  # noqa: PLR0913 - each is an option
    call: CallText,
    *,
    executed: Annotated[
        bool, typer.Option("--executed/--failed", help="It did happen, or it did not.")
    ],
    evidence: Evidence,
    amount: Annotated[
        str, typer.Option(metavar="MONEY", help='What it took, "1.15 USD", if you know.')
    ] = "",
    claimed: Claimed = None,
    token_file: TokenFile = None,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Say what became of a call in doubt, after looking at the upstream."""
    with reporting():
        from approval.cli import calls  # noqa: PLC0415 - heavy

        proof = Proof(claimed=claimed, token_file=token_file)
        word = Word(call=call, evidence=evidence, amount=amount)
        calls.settle(config, word, proof, executed=executed, as_json=as_json)


@app.command()
def correct(  # noqa: PLR0913 - each is an option
    call: CallText,
    *,
    amount: Annotated[str, typer.Option(metavar="MONEY", help='What it took: "1.15 USD".')],
    evidence: Evidence,
    claimed: Claimed = None,
    token_file: TokenFile = None,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Correct what was booked for a call that ended; takes the right to settle."""
    with reporting():
        from approval.cli import calls  # noqa: PLC0415 - heavy

        proof = Proof(claimed=claimed, token_file=token_file)
        word = Word(call=call, evidence=evidence, amount=amount)
        calls.correct(config, word, proof, as_json=as_json)


@app.command()
def cancel(
    call: CallText,
    *,
    reason: Annotated[str, typer.Option(help="Why: the agent is told.")] = "",
    claimed: Claimed = None,
    token_file: TokenFile = None,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Withdraw a call that has not run; for the agent's owner and for admins."""
    with reporting():
        from approval.cli import calls  # noqa: PLC0415 - heavy

        proof = Proof(claimed=claimed, token_file=token_file)
        calls.cancel(config, call, proof, reason, as_json=as_json)


@audit.command("verify")
def audit_verify(
    *,
    head: Annotated[str | None, typer.Option(help="A head noted earlier; must be there.")] = None,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Recompute the chain from its first entry, and hold the calls against it."""
    with reporting():
        from approval.cli import trail  # noqa: PLC0415 - heavy

        trail.verify(config, head, as_json=as_json)


@audit.command("tail")
def audit_tail(
    *,
    count: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000)] = 20,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Show the last entries."""
    with reporting():
        from approval.cli import trail  # noqa: PLC0415 - heavy

        trail.tail(config, count, as_json=as_json)


@audit.command("export")
def audit_export(
    *,
    out: Annotated[Path | None, typer.Option(help="A new file; otherwise the output.")] = None,
    config: ConfigFile = DEFAULT,
) -> None:
    """Write every entry as a line of JSON, with the bytes that were hashed."""
    with reporting():
        from approval.cli import trail  # noqa: PLC0415 - heavy

        trail.export(config, out)


@token.command("agent")
def token_agent(name: Name, *, config: ConfigFile = DEFAULT, as_json: AsJson = False) -> None:
    """Issue a token for an agent. It is shown once."""
    with reporting():
        from approval.cli import tokens  # noqa: PLC0415 - heavy

        tokens.issue(config, tokens.Kind.AGENT, name, as_json=as_json)


@token.command("person")
def token_person(name: Name, *, config: ConfigFile = DEFAULT, as_json: AsJson = False) -> None:
    """Issue a token for a person's API and command line. It is shown once."""
    with reporting():
        from approval.cli import tokens  # noqa: PLC0415 - heavy

        tokens.issue(config, tokens.Kind.PERSON, name, as_json=as_json)


@token.command("login")
def token_login(name: Name, *, config: ConfigFile = DEFAULT) -> None:
    """Make a one-time link that signs a person in to the console."""
    with reporting():
        from approval.cli import tokens  # noqa: PLC0415 - heavy

        tokens.login(config, name)


@token.command("revoke")
def token_revoke(
    name: Name,
    *,
    kind: Annotated[str | None, typer.Option(help="Only agent, person, login or session.")] = None,
    config: ConfigFile = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Take back everything that was issued to a name."""
    with reporting():
        from approval.cli import tokens  # noqa: PLC0415 - heavy

        tokens.revoke(config, name, kind, as_json=as_json)


@database.command("upgrade")
def database_upgrade(*, config: ConfigFile = DEFAULT) -> None:
    """Bring the schema up to date; a copy of the old file is kept."""
    with reporting():
        from approval.cli import database as commands  # noqa: PLC0415 - heavy

        commands.upgrade(config)


@database.command("backup")
def database_backup(
    file: Annotated[Path, typer.Argument(help="A new file.")], *, config: ConfigFile = DEFAULT
) -> None:
    """Copy the database as it is now, while it is in use."""
    with reporting():
        from approval.cli import database as commands  # noqa: PLC0415 - heavy

        commands.backup(config, file)


@database.command("version")
def database_version(*, config: ConfigFile = DEFAULT, as_json: AsJson = False) -> None:
    """Say which schema the database has, and which one this version knows."""
    with reporting():
        from approval.cli import database as commands  # noqa: PLC0415 - heavy

        commands.version(config, as_json=as_json)
