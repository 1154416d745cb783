"""Commands and groups as this program has them: with examples, and the nearest word for a wrong one."""

from typing import Any

import click

HELP_WIDTH = 100
"""Characters a line of help has at most."""


class Command(click.Command):
    """A command with examples at the end of its help."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **more: Any) -> None:
        super().__init__(*args, **more)
        self.examples = examples

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, as they are typed."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"  resource-wireguard {example}\n")


class Group(click.Group):
    """A group whose commands are listed in the order of the code, and which knows near misses."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{"no_args_is_help": False, **more})

    def list_commands(self, _: click.Context) -> list[str]:
        """In the order in which they were written: a task's first step first."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with the first sentence of its help, whole: a line more tells more than three dots."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(1000)) for name in self.list_commands(ctx)]
            )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; a group that cannot stand alone says which commands there are."""
        rest = super().parse_args(ctx, args)
        alone = not args and not self.invoke_without_command
        if alone and not ctx.resilient_parsing:
            raise Refusal("a command is missing", f"there are: {', '.join(self.list_commands(ctx))}", ctx)
        return rest

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names; a wrong word is answered with the nearest right one."""
        word = args[0]
        command = self.get_command(ctx, word)
        if command is None and not ctx.resilient_parsing:  # which is how a shell asks for completions
            known = self.list_commands(ctx)
            raise Refusal(f"there is no command '{word[:60]}'", near_hint(word, known), ctx)
        return word if command else None, command, args[1:]


class Refusal(click.UsageError):
    """A usage error with its own hint."""

    def __init__(self, message: str, hint: str, ctx: click.Context | None = None) -> None:
        super().__init__(message, ctx)
        self.hint = hint


def near_hint(word: str, known: list[str]) -> str:
    """'did you mean …?', or all there are."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=2, cutoff=0.7)
    nearest = " or ".join(f"'{name}'" for name in near)
    return f"did you mean {nearest}?" if near else f"there are: {', '.join(known)}"
