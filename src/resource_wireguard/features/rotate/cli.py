"""The commands of rotation."""

import time
from collections.abc import Iterator
from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call, on_terminal
from resource_wireguard.cli.command import Group, Refusal
from resource_wireguard.cli.options import PORT, Number, Span, format_option, given, show_notes

keep_option = click.option(
    "--keep",
    type=Span(),
    metavar="TIME",
    help="How long the retired key is kept, sealed; 30d otherwise, 0s not at all.",
)

ASKED_EVERY = 0.2
"""Seconds between two looks whether a peer's agent has answered; ours gives up after a few seconds."""


@click.group(cls=Group)
def rotate() -> None:
    """New keys for tunnels and peers, without losing a packet."""


@rotate.command(
    examples=(
        "rotate keys home",
        "rotate keys home --overlap 14d --port 51830",
        "rotate keys home --now",
    )
)
@click.argument("tunnel")
@click.option(
    "--overlap",
    type=Span(),
    metavar="TIME",
    help="How long the old key stays beside the new one; 7d otherwise.",
)
@click.option(
    "--now", is_flag=True, help="The old key goes at once; ends the overlap of a rotation that runs."
)
@click.option("--port", type=PORT, help="UDP port of the new generation; the next free one otherwise.")
@click.option(
    "--endpoint", metavar="HOST[:PORT]", help="Where peers reach the new generation, if a router maps ports."
)
@click.option("--restore", type=Number(1, 2**31), metavar="NUMBER", help="Use the retired key of a rotation.")
@keep_option
@format_option
def keys(format_: str, now: bool, **fields: Any) -> None:
    """Give a tunnel a new key pair.

    A new generation runs beside the old one, with a key, an interface and a port of its own. Each peer is
    followed to it when it first uses it; when all have moved, or the overlap is over, the old one goes.
    """
    _refuse_with_now(now, fields, ("overlap", "port", "endpoint"))
    done = call("rotate.keys", given(**fields, now=now or None))
    output.show(done, format_, _done_lines)
    show_notes(done)


@rotate.command(
    examples=(
        "rotate peer home phone",
        "rotate peer home laptop --public-key KEY",
        "rotate peer home phone --now",
    )
)
@click.argument("tunnel")
@click.argument("peer")
@click.option(
    "--public-key", metavar="KEY", help="The peer made its new keys itself; this is the public one."
)
@click.option(
    "--grace", type=Span(), metavar="TIME", help="How long the old key is known after that; 10m otherwise."
)
@click.option("--now", is_flag=True, help="The old key goes at once.")
@keep_option
@format_option
def peer(format_: str, now: bool, **fields: Any) -> None:
    """Give a peer a new key pair.

    The new key is known beside the old one, and takes over with its first handshake. A peer that runs this
    agent too is asked to make its key itself, and puts it to use; the command says so.
    """
    _refuse_with_now(now, fields, ("grace",))
    done = call("rotate.peer", given(**fields, now=now or None))
    _show_answered(done, format_, fields, "to make the key")


@rotate.command(examples=("rotate psk home phone",))
@click.argument("tunnel")
@click.argument("peer")
@keep_option
@format_option
def psk(format_: str, **fields: Any) -> None:
    """Give a peer a new preshared key; its session lives on until the next handshake.

    A peer that runs this agent too is given the key inside the tunnel; the command says so.
    """
    done = call("rotate.psk", given(**fields))
    _show_answered(done, format_, fields, "to take a new preshared key")


def _show_answered(done: dict[str, Any], format_: str, fields: dict[str, Any], what: str) -> None:
    """Wait for the word of a peer's agent, where one is asked."""
    if done.get("asking"):
        on_terminal(f"asking the agent of '{fields['peer']}' {what}")
    while done.get("asking"):
        time.sleep(ASKED_EVERY)
        done = call("rotate.asked", {"tunnel": fields["tunnel"], "number": done["rotation"]["id"]})
    output.show(done, format_, _done_lines)
    show_notes(done)


@rotate.command(examples=("rotate status", "rotate status home --format json"))
@click.argument("tunnel", required=False)
@format_option
def status(tunnel: str | None, format_: str) -> None:
    """Show which keys are in use, and how far each rotation has come."""
    output.show(call("rotate.status", given(tunnel=tunnel)), format_, _status_lines)


@rotate.command(examples=("rotate history home",))
@click.argument("tunnel", required=False)
@click.option("--tail", type=Number(1, 100_000), metavar="NUMBER", help="How many; 50 otherwise.")
@format_option
def history(tunnel: str | None, tail: int | None, format_: str) -> None:
    """Show past rotations with the keys' fingerprints, the latest first."""
    output.show(call("rotate.history", given(tunnel=tunnel, tail=tail)), format_, _history_lines)


@rotate.command(
    examples=(
        "rotate schedule home --interval 30d",
        "rotate schedule home --interval 30d --overlap 7d --jitter 10%",
        "rotate schedule home --off",
        "rotate schedule",
    )
)
@click.argument("tunnel", required=False)
@click.option("--interval", type=Span(), metavar="TIME", help="How often: 30d.")
@click.option("--overlap", type=Span(), metavar="TIME", help="As for 'rotate keys'; 7d otherwise.")
@click.option("--jitter", metavar="TIME|PERCENT", help="Up to so much later, so that many hosts do not meet.")
@click.option("--off", is_flag=True, help="End the schedule.")
@format_option
def schedule(
    tunnel: str | None,
    interval: int | None,
    overlap: int | None,
    jitter: str | None,
    off: bool,
    format_: str,
) -> None:
    """Rotate a tunnel's keys again and again; without a tunnel, list the schedules.

    Each time is run once. One that was missed, because the host was off or asleep, is run when it is back; a
    clock that is set starts nothing and puts nothing off.
    """
    if tunnel is None:
        output.show(call("rotate.schedules"), format_, _schedule_lines)
    elif off:
        output.show(call("rotate.schedule-off", {"tunnel": tunnel}), format_, _off_lines)
    else:
        if interval is None:
            raise Refusal("--interval is missing", "give one such as --interval 30d, or --off")
        wanted = given(tunnel=tunnel, interval=interval, overlap=overlap, jitter=_jitter(jitter, interval))
        made = call("rotate.schedule", wanted)
        output.show(made, format_, lambda shown: _schedule_lines([shown]))


def _jitter(text: str | None, interval: int) -> float | None:
    """A time, or a part of the interval, in seconds."""
    if text is None or not text.endswith("%"):
        return None if text is None else float(Span().convert(text, None, click.get_current_context()))
    number = text[:-1]
    if not number.isascii() or not number.isdecimal() or len(number) > 3:
        raise Refusal(f"--jitter '{text[:20]}' is neither a time nor a part of one", "try 10% or 2h")
    return interval * int(number) / 100


@rotate.command(examples=("rotate rollback home", "rotate rollback home phone"))
@click.argument("tunnel")
@click.argument("peer", required=False)
@format_option
def rollback(tunnel: str, peer: str | None, format_: str) -> None:
    """Withdraw a new key that has not taken over yet, a tunnel's or a peer's."""
    done = call("rotate.rollback", given(tunnel=tunnel, peer=peer))
    output.show(done, format_, _done_lines)
    show_notes(done)


def _refuse_with_now(now: bool, fields: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if now and fields[name] is not None:
            raise click.UsageError(f"--now and --{name} exclude each other", click.get_current_context())


# text -------------------------------------------------------------------------------------------------


def _done_lines(done: dict[str, Any]) -> Iterator[str]:
    yield from _rotation_lines(done["rotation"])
    yield from _next_lines(done["next"])


def _status_lines(tunnels: list[dict[str, Any]]) -> Iterator[str]:
    for number, tunnel in enumerate(tunnels):
        yield from [""] if number else []
        yield from output.fields(
            [
                ("tunnel", tunnel["tunnel"]),
                ("generation", str(tunnel["generation"])),
                ("key", tunnel["fingerprint"]),
                ("rotation", "" if tunnel["running"] else "none is running"),
            ]
        )
        for running in tunnel["running"]:
            yield from ["", *_rotation_lines(running)]
            head = ("PEER", "MOVED", "HANDSHAKE")
            yield from ["", *output.table(head, [_peer_row(peer) for peer in running["peers"]])]
            yield from _next_lines(running["next"])


def _rotation_lines(rotation: dict[str, Any]) -> Iterator[str]:
    new = f"{rotation['interface']}, UDP port {rotation['listen_port']}" if rotation.get("interface") else ""
    left = rotation["seconds_left"]
    yield from output.fields(
        [
            ("rotation", f"{rotation['id']}, {_what(rotation)}"),
            ("old key", rotation["old_fingerprint"]),
            ("new key", rotation["new_fingerprint"]),
            ("public key", rotation.get("new_public_key") or ""),
            ("listens on", new),
            ("state", rotation["outcome"] or "running"),
            ("ends in", output.duration(left) if left is not None else ""),
        ]
    )


def _peer_row(peer: dict[str, Any]) -> tuple[str, ...]:
    moved = ("yes" if peer["moved"] else "no") if peer["enabled"] else "disabled"
    return peer["name"], moved, output.ago(peer["latest_handshake"])


def _next_lines(steps: list[str]) -> Iterator[str]:
    if steps:
        yield from ["", "next:", *(f"  {step}" for step in steps)]


def _schedule_lines(schedules: list[dict[str, Any]]) -> Iterator[str]:
    if not schedules:
        yield "no schedules; make one with: resource-wireguard rotate schedule TUNNEL --interval 30d"
        return
    spans = ("interval", "overlap", "jitter")
    rows = [
        (
            schedule["tunnel"],
            *(output.duration(schedule[span]) for span in spans),
            str(schedule["runs"]),
            schedule["next_at"] or "-",
        )
        for schedule in schedules
    ]
    yield from output.table(("TUNNEL", "EVERY", "OVERLAP", "JITTER", "RUNS", "NEXT"), rows)


def _off_lines(done: dict[str, Any]) -> Iterator[str]:
    yield f"the keys of '{done['tunnel']}' rotate by hand only"


def _history_lines(rotations: list[dict[str, Any]]) -> Iterator[str]:
    head = ("NUMBER", "BEGUN", "TUNNEL", "WHAT", "OLD KEY", "NEW KEY", "BY", "OUTCOME", "KEPT UNTIL")
    rows = [
        (
            str(rotation["id"]),
            rotation["started_at"] or "-",
            rotation["tunnel"],
            _what(rotation),
            rotation["old_fingerprint"],
            rotation["new_fingerprint"],
            rotation["actor"],
            rotation["outcome"] or "running",
            rotation["kept_until"] or "-",
        )
        for rotation in rotations
    ]
    yield from output.table(head, rows)


def _what(rotation: dict[str, Any]) -> str:
    if rotation["peer"] is None:
        return "keys of the tunnel"
    return f"{'preshared ' if rotation['what'] != 'peer' else ''}key of {rotation['peer']}"
