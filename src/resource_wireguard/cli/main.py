"""The root of the command line: lazy, so that a call pays only for the command it names."""

import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from resource_wireguard import __version__
from resource_wireguard.cli import output, registry
from resource_wireguard.cli.command import HELP_WIDTH, Command, Group
from resource_wireguard.cli.options import format_option
from resource_wireguard.errors import ResourceError

SERVICE = {
    "manage": "Install, start, stop, restart and uninstall the service.",
    "doctor": "Find out why it does not work here.",
}
CHANGES = {
    "undo": "Take back the last change.",
    "confirm": "Keep a change that was applied with --confirm.",
    "drift": "What to do when others change what is ours: enforce or report.",
    "backup": "Everything in one encrypted file, and back.",
}
LOOKING = {
    "plan": "What the agent would change on this host now.",
    "journal": "Who changed what, when, and with which result.",
    "logs": "What the agent has logged.",
    "credentials": "What another program needs to reach the tunnels.",
}
PROGRAM = {
    "help": "This page, or the page of a command: help peer add.",
    "info": "Facts for a supervisor: start order, time-outs, priority.",
    "test": "Test the resource as it is installed here.",
    "completion": "Completion of commands for bash, zsh or fish.",
    "version": "The version of this program.",
    "agent": "Run the agent in the foreground (a service supervisor's command).",
}

MODULES = {
    "manage": "resource_wireguard.cli.service",
    "doctor": "resource_wireguard.cli.doctor",
    "undo": "resource_wireguard.cli.history",
    "confirm": "resource_wireguard.cli.history",
    "drift": "resource_wireguard.cli.history",
    "journal": "resource_wireguard.cli.history",
    "backup": "resource_wireguard.cli.backup",
    "plan": "resource_wireguard.cli.plan",
    "logs": "resource_wireguard.cli.logs",
    "credentials": "resource_wireguard.cli.credentials",
    "test": "resource_wireguard.cli.selftest",
    "completion": "resource_wireguard.cli.completion",
    "info": "resource_wireguard.cli.about",
    "agent": "resource_wireguard.cli.agent",
}
"""Where the root's own commands lie, beside help and version, which are here."""

EXAMPLES = (
    ("manage start --wait", "start the service"),
    ("interface create home --exit --endpoint vpn.example.org", "a tunnel that peers use as their exit"),
    ("peer add home phone --output phone.conf", "a peer, with the config for it"),
    ("peer config home phone --qr", "the same as a QR code for the phone's app"),
    ("status", "what runs, and what is wrong"),
)

ENVIRONMENT = (
    ("CONFIG_DIR", "~/.vrooli/resources/wireguard", "keys, database, socket and log"),
    ("WIREGUARD_PORT", "51820", "first UDP port for a new tunnel"),
    ("WIREGUARD_NETWORK", "10.13.13.0/24", "first network for a new tunnel"),
    ("WIREGUARD_DNS", "none", "resolvers for the peers' configs"),
    ("WIREGUARD_KEEPALIVE", "25", "seconds; 0 turns it off"),
    ("WIREGUARD_MTU", "auto", "bytes; auto: from the path to the peers"),
    ("WIREGUARD_ALLOWED_IPS", "the tunnel's network", "what peers send into the tunnel"),
    ("WIREGUARD_PEERS_MAX", "no limit", "peers a tunnel may have"),
    ("WIREGUARD_LOG_LEVEL", "info", "debug, info, warning or error"),
    ("WIREGUARD_ENGINE", "auto", "kernel, userspace, or a program; auto: the kernel first"),
    ("CONTAINER_NAME", "vrooli-wireguard", "the container of 'manage install --runtime docker'"),
    ("WIREGUARD_IMAGE", "built from the checkout", "the image of that container"),
    ("NO_COLOR", "unset", "set it for output without colours"),
)

COMPLETION = "_RESOURCE_WIREGUARD_COMPLETE"
"""The variable that a shell sets when it asks what could come next."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""

NOBODY_READS = 141
"""Exit code when the reader of our output has gone (| head): 128 + SIGPIPE."""


class Root(Group):
    """All commands: the program's own, and those of the features in the registry."""

    def list_commands(self, _: click.Context) -> list[str]:
        """By task, not by alphabet."""
        return [word for _, words in _sections() for word in words]

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one module that holds the command."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        module = MODULES.get(cmd_name) or registry.module_of(cmd_name)
        command: click.Command | None = getattr(import_module(module), cmd_name) if module else None
        return command

    def format_help(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """What the Vrooli contract wants on this page: usage, commands, defaults."""
        formatter.write("resource-wireguard owns the WireGuard networking of this host.\n")
        formatter.write_paragraph()
        formatter.write_usage("resource-wireguard", "COMMAND [ARGUMENTS]... [--help]")
        with formatter.section("Usage examples"):
            for typed, what in EXAMPLES:
                formatter.write(f"  # {what}\n  resource-wireguard {typed}\n")
        formatter.write("\nAvailable commands:\n")
        with formatter.indentation():
            for title, words in _sections():
                with formatter.section(title):
                    formatter.write_dl(list(words.items()))
        with formatter.section("Default configuration (environment variables)"):
            formatter.write_dl([(name, f"[{default}] {what}") for name, default, what in ENVIRONMENT])


def _sections() -> list[tuple[str, dict[str, str]]]:
    return [
        ("The service", SERVICE),
        ("Networks", {**registry.feature_groups(), **registry.feature_actions()}),
        ("Changes", CHANGES),
        ("Looking", {**registry.feature_commands(), **LOOKING}),
        ("This program", PROGRAM),
    ]


@click.command(
    cls=Root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH},
)
@click.option("--version", is_flag=True, help="Print the version.")
@click.pass_context
def root(ctx: click.Context, version: bool) -> None:
    """Owns the WireGuard networking of this host."""
    if version:
        print(f"resource-wireguard {__version__}")
    elif ctx.invoked_subcommand is None:
        print(ctx.get_help())


@root.command("help", cls=Command, examples=("help", "help peer", "help peer add"))
@click.argument("words", nargs=-1, metavar="[GROUP] [COMMAND]")
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show this program's commands, or the page of one."""
    context = ctx.find_root()
    for word in words:
        group = context.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"'{context.info_name}' has no command '{word[:60]}'", context)
        _, command, _ = group.resolve_command(context, [word])
        assert command is not None
        context = click.Context(command, parent=context, info_name=word)
    print(context.get_help())


@root.command("version")
@format_option
def version_(format_: str) -> None:
    """Print the version of this program."""
    shown = {"name": "resource-wireguard", "version": __version__}
    output.show(shown, format_, lambda _: [f"resource-wireguard {__version__}"])


def main() -> NoReturn:
    """Run one command; every way out of it is an exit code and at most two lines on stderr."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = _complete() if COMPLETION in os.environ else _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the flush at exit must not fail again
        code = NOBODY_READS
    sys.exit(code)


def _complete() -> int:
    from resource_wireguard.cli.completion import answer

    return answer(root)


def _run(words: list[str]) -> int:
    try:
        with root.make_context("resource-wireguard", words) as ctx:
            returned = root.invoke(ctx)
            return returned if isinstance(returned, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        output.error(*_usage(error))
        return 1
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except ResourceError as error:
        output.error(error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception as bug:  # noqa: BLE001 - the edge: a person gets one line and an exit code
        _tell(bug)
        return 1


def _tell(bug: Exception) -> None:
    """Kind and place of a bug; its text stays out, unless asked for: it may hold what must not be printed."""
    trace = bug.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else ""
    output.error(
        f"a bug of this program: {type(bug).__name__}{place}",
        "please report what it prints with WIREGUARD_LOG_LEVEL=debug, without your keys",
    )
    if os.environ.get("WIREGUARD_LOG_LEVEL") == "debug":
        sys.excepthook(type(bug), bug, bug.__traceback__)


def _usage(error: click.UsageError) -> tuple[str, str]:
    """Message and hint; the contract keeps exit code 2 for other things than click does."""
    page = error.ctx.command_path if error.ctx else "resource-wireguard"
    where = page.removeprefix("resource-wireguard").strip()
    near = getattr(error, "possibilities", None)
    hint = f"did you mean '{near[0]}'?" if near else getattr(error, "hint", f"see '{page} --help'")
    message = (error.message if near else error.format_message()).rstrip(".")
    message = f"{message[:1].lower()}{message[1:]}"
    return f"{where}: {message}" if where else message, hint
