"""The agent's voice inside the tunnels: a UDP socket on each device, which asks, answers and repeats.

Nothing that comes in is believed to be more than bytes: size and rate are bounded before it is decoded, and
who speaks is settled by the device and address it came from.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import ResourceError
from resource_wireguard.features.rotate import exchange, offered
from resource_wireguard.features.rotate.exchange import Telling
from resource_wireguard.features.rotate.limits import Limits, Rates
from resource_wireguard.features.rotate.messages import (
    PORT,
    SIZE_MOST,
    Heard,
    NotYet,
    Preshared,
    Request,
    Wish,
    decode,
    encode,
)
from resource_wireguard.model.net import is_v6
from resource_wireguard.model.specs import Specs

log = logging.getLogger(__name__)

AGAIN_FIRST = 0.2
"""Seconds until what was not answered is said again; doubled each time."""

AGAIN_AT_MOST = {"keys": 60.0, "wish": 1.0, "psk": 10.0}
"""Seconds, doubled up to which: a wish is given up after a few, and a session with one end's preshared key
alone lives no longer than three minutes."""

NOT_YET_MOST = 2.0
"""Seconds until it is asked again after an answer that it is not so yet; doubled as well."""

LOOK_EVERY = 10.0
"""Seconds between two looks at what is to be said, when nothing is reported."""

BURST, PER_SECOND = 20, 5.0
"""Datagrams that a sender may have answered at once, and from then on each second."""

T = TypeVar("T")
Ear = tuple[str, int, str]
"""An interface by name and index, and one of our addresses on it."""


class Listener(Protocol):
    """What the source works with: the agent."""

    def specs(self) -> Specs:
        """The specs of the last pass."""

    def ask(self, work: Callable[[Engine], T]) -> Awaitable[T]:
        """Work in the engine's thread, as a command does."""

    async def wait(self, seconds: float) -> None:
        """Until the next report, at most some seconds."""


class Conversation:
    """All that is said and heard in the tunnels of one agent."""

    def __init__(self, agent: Listener) -> None:
        self._agent = agent
        self._ears: dict[Ear, asyncio.DatagramTransport] = {}
        self._rates, self._limits = Rates(BURST, PER_SECOND), Limits()
        self._awaited: dict[str, tuple[Telling, asyncio.Future[Heard | NotYet]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._talks: dict[tuple[str, str, str], tuple[Telling, asyncio.Task[None]]] = {}
        self._refused: set[str] = set()
        self._opening = asyncio.Lock()

    async def run(self) -> None:
        """Look what is to be said, for ever."""
        try:
            while True:
                await self._open_ears()
                with contextlib.suppress(ResourceError):  # said again at the next look
                    self._talk(await self._agent.ask(_what_to_say))
                await self._agent.wait(LOOK_EVERY)
        finally:
            for task in [*self._tasks, *(task for _, task in self._talks.values())]:
                task.cancel()
            for transport in self._ears.values():
                transport.close()

    # Hearing --------------------------------------------------------------------------------------

    async def _open_ears(self) -> None:
        """A socket for each address of each device, as they are now."""
        async with self._opening:
            wanted = set(_ears(self._agent.specs()))
            for ear in self._ears.keys() - wanted:
                self._ears.pop(ear).close()
            for ear in wanted - self._ears.keys():
                try:
                    sock = _bound(ear)
                except OSError as error:  # an address that is not there yet, or a port that another holds
                    self._complain(f"cannot hear agents on {ear[0]}: {error.strerror}")
                    continue
                loop = asyncio.get_running_loop()
                transport, _ = await loop.create_datagram_endpoint(partial(_Mouth, self, ear), sock=sock)
                self._ears[ear] = transport

    def _complain(self, text: str) -> None:
        if text not in self._refused:
            self._refused.add(text)
            log.warning("%s", text)

    def heard(self, ear: Ear, transport: asyncio.DatagramTransport, datagram: bytes, sender: Any) -> None:
        """One datagram; what is no message of ours, or comes from another port, is nothing."""
        address, port = sender[:2]
        if port != PORT or not self._rates.admit(ear[0], address):
            return
        message = decode(datagram)
        if isinstance(message, Heard | NotYet):
            telling, answer = self._awaited.get(message.id, (None, None))
            if telling and answer and telling.destination == address and not answer.done():
                answer.set_result(message)
        elif message is not None and len(self._tasks) < BURST:
            task = asyncio.create_task(self._answer(ear, transport, message, sender))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, ear: Ear, transport: asyncio.DatagramTransport, message: Request, sender: Any
    ) -> None:
        """By the way it came: that device, and so that key, is known to work."""

        def work(engine: Engine) -> bytes | None:
            speaker = exchange.speaker_of(engine.specs(), ear[0], sender[0])
            if speaker is None:
                return None
            if isinstance(message, Wish):
                return encode(exchange.grant(engine, speaker, message, self._limits))
            if isinstance(message, Preshared):
                return encode(offered.hear(engine, speaker, message, self._limits))
            return encode(exchange.hear(engine, speaker, message, self._limits))

        try:
            answer = await self._agent.ask(work)
        except ResourceError as error:
            log.warning("an agent could not be answered: %s", error.message)
            return
        await self._open_ears()  # it may speak on a device that was just made for it
        if answer and not transport.is_closing():
            transport.sendto(answer, sender)
        if isinstance(message, Wish | Preshared):
            with contextlib.suppress(ResourceError):  # said at the next look
                self._talk(await self._agent.ask(_what_to_say))

    # Saying ---------------------------------------------------------------------------------------

    def _talk(self, wanted: list[Telling]) -> None:
        """One talk with each peer about each kind of key; another one if what is said has changed."""
        peers = {(telling.tunnel, telling.peer, telling.about): telling for telling in wanted}
        for peer, (telling, task) in list(self._talks.items()):
            if peer not in peers or not peers[peer].says(telling) or task.done():
                task.cancel()
                del self._talks[peer]
        for peer, telling in peers.items():
            if peer not in self._talks:
                self._talks[peer] = telling, asyncio.create_task(self._tell(telling))

    async def _tell(self, telling: Telling) -> None:
        """Say it until it is heard; a peer without an agent never answers, and is asked ever less often."""
        identity, pause = os.urandom(8).hex(), AGAIN_FIRST
        while True:
            with contextlib.suppress(ResourceError):  # then it is said again
                # By the device of now: the one it was begun with may be gone on the other side.
                now = await self._agent.ask(partial(exchange.again, telling=telling))
                if now is None:
                    return
                telling = now
                await self._open_ears()
                answer = await self._ask(identity, telling, pause)
                if isinstance(answer, Heard):
                    await self._agent.ask(partial(exchange.told, telling=telling, answer=answer))
                    if telling.offer:  # that it is in use is the next thing to say
                        self._talk(await self._agent.ask(_what_to_say))
                    return
                if isinstance(answer, NotYet):
                    log.debug("'%s' of '%s': %s", telling.peer, telling.tunnel, answer.why)
                    pause = min(pause, NOT_YET_MOST)
                    await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_AT_MOST[telling.about])

    async def _ask(self, identity: str, telling: Telling, seconds: float) -> Heard | NotYet | None:
        """One datagram, and what is answered to it or to one of the same identity before it."""
        answer: asyncio.Future[Heard | NotYet] = asyncio.get_running_loop().create_future()
        self._awaited[identity] = telling, answer
        try:
            for ear, transport in self._ears.items():
                if (ear[0], ear[2]) == (telling.interface, telling.source):
                    transport.sendto(encode(telling.message(identity)), (telling.destination, PORT))
            return await asyncio.wait_for(answer, seconds)
        except TimeoutError:
            return None
        finally:
            del self._awaited[identity]


class _Mouth(asyncio.DatagramProtocol):
    """One socket."""

    def __init__(self, conversation: Conversation, ear: Ear) -> None:
        self._conversation, self._ear = conversation, ear

    def connection_made(self, transport: Any) -> None:
        """As asyncio calls it."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """As asyncio calls it."""
        self._conversation.heard(self._ear, self._transport, data, addr)


async def converse(agent: Listener) -> None:
    """Speak with the agents of peers, for ever."""
    await Conversation(agent).run()


def _what_to_say(engine: Engine) -> list[Telling]:
    if exchange.lost_guests(engine):
        engine.settle("exchange")
    return list(exchange.tellings(engine))


def _ears(specs: Specs) -> Iterator[Ear]:
    """Each address of each device whose tunnel has a peer that could speak, as far as it is there."""
    for tunnel, interface, _ in specs.devices():
        if tunnel.active and any(peer.enabled and peer.addresses for peer in tunnel.peers):
            with contextlib.suppress(OSError):
                index = socket.if_nametoindex(interface)
                yield from ((interface, index, address.partition("/")[0]) for address in tunnel.addresses)


def _bound(ear: Ear) -> socket.socket:
    """A socket that hears only what comes in by one device (socket(7), SO_BINDTODEVICE)."""
    interface, _, address = ear
    sock = socket.socket(socket.AF_INET6 if is_v6(address) else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * SIZE_MOST)
        sock.bind((address, PORT))
    except OSError:
        sock.close()
        raise
    return sock
