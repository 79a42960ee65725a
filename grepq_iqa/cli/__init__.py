"""The command line: one file a command, each imported when it is called, so that help is instant."""

from grepq_iqa.cli.app import run

__all__ = ["run"]
