"""Run the commands: `approval …`, or `python -m approval …`."""

from approval.cli.main import app


def main() -> None:
    """Run the command that the arguments name."""
    app()


if __name__ == "__main__":
    main()
