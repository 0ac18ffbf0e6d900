"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", envvar="APPROVAL_CONFIG", help="The configuration file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for scripts.")]
CallText = Annotated[str, typer.Argument(metavar="ID", help="A call's id, or its beginning.")]
Name = Annotated[str, typer.Argument(metavar="NAME")]
Claimed = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="NAME", help='Claim to be NAME; needs \\[approvals] local="trust".'
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="A file with your own token. Otherwise APPROVAL_TOKEN, or a prompt."),
]
Digest = Annotated[
    str | None, typer.Option(help="Decide only if the call's digest begins with this.")
]
Evidence = Annotated[str, typer.Option(help="How you know.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again.")]
DEFAULT = Path("config.toml")
