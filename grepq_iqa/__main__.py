"""``grepq``, ``grepq-iqa`` and ``python -m grepq_iqa``: one program."""

from __future__ import annotations


def main() -> None:
    """Run the command line; exits with 0, 1 (some images failed) or 2 (wrong usage, or no model)."""
    from grepq_iqa.cli import run

    run()


if __name__ == "__main__":
    main()
