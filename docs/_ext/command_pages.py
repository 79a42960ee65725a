"""The directive ``commands``: a reference of a typer application, made from the commands at every build.

```{commands} grepq_iqa.cli.app:app grepq
```
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from unittest import mock

import typer
from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Commands(SphinxDirective):
    """Arguments: ``module:application`` and the name that people type."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Sections, one a command."""
        module, attribute = self.arguments[0].split(":")
        program = self.arguments[1]
        command = typer.main.get_command(getattr(importlib.import_module(module), attribute))
        lines = list(_pages(command, program.replace("_-m_", " -m "), None))
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _pages(command, name: str, parent, level: int = 2) -> Iterator[str]:
    context = typer.Context(command, parent=parent, info_name=name.split()[-1])
    children = list(_children(command, context))
    yield f"{'#' * level} {name}\n"
    if not children:
        pieces = " ".join(command.collect_usage_pieces(context))
        yield f"```text\n{name} {pieces}\n```\n"
    yield from _help(command.help or "")
    for kind in ("argument", "option"):
        rows = [p.get_help_record(context) for p in command.get_params(context) if p.param_type_name == kind]
        for record in filter(None, rows):
            term, text = record
            yield f"`{term}`\n: {_prose(text) or '(no further explanation)'}\n"
    for child_name, child in children:
        yield from _pages(child, f"{name} {child_name}", context, level + 1)


def _children(command, context) -> Iterator[tuple[str, object]]:
    if not hasattr(command, "list_commands"):
        return
    for name in command.list_commands(context):
        with mock.patch.object(sys, "argv", ["grepq", name]):  # commands are loaded when they are called
            child = command.get_command(context, name)
        if not child.hidden:
            yield name, child


def _help(text: str) -> Iterator[str]:
    """The docstring: prose, and after "Examples:" the lines to type."""
    prose, _, examples = text.partition("Examples:")
    for paragraph in prose.strip().split("\n\n"):
        yield _prose(" ".join(paragraph.split())) + "\n"
    if examples:
        lines = "\n".join(line.strip() for line in examples.strip().splitlines() if line.strip())
        yield f"```sh\n{lines}\n```\n"


def _prose(text: str) -> str:
    """Help as Markdown: what looks like markup there is meant as it stands, code between backticks apart."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<>\[\]{}$\\|~])", r"\\\1", part) for part in parts)


def setup(app) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
