"""Where an agent listens for those of its peers: in the network namespace in which a device lies."""

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from tests.unit.worlds import key_of

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import HostError
from resource_wireguard.features.rotate.conversation import Conversation, Ear, converse
from resource_wireguard.features.rotate.exchange import Telling
from resource_wireguard.features.rotate.messages import PORT, VERSION, Heard, encode
from resource_wireguard.host.state import NetNamespace
from resource_wireguard.model.specs import Specs
from resource_wireguard.system.fake import FakeHost

Call = Callable[..., Any]
T = TypeVar("T")

HUB = "10.13.13.1"
PRIVATE = b64encode(b"p" * 32).decode()
TEXT = "[Interface]\nPrivateKey = {}\nAddress = {}/24\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.13.13.2/32\n"
INSIDE, OUTSIDE = ("wg-home", "wg-work", HUB, PORT), ("wg-home", None, HUB, PORT)
OTHER = ("wg-other", None, HUB, PORT)


class Desk:
    """The agent's part, one look at a time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.steps: Iterator[Callable[[], Any]] = iter(())

    def specs(self) -> Specs:
        return self.engine.last_specs

    async def ask(self, work: Callable[[Engine], T]) -> T:
        return work(self.engine)

    async def wait(self, _: float) -> None:
        """Between two looks something happens; after the last one the agent ends."""
        await asyncio.sleep(0)
        step = next(self.steps, None)
        if step is None:
            raise asyncio.CancelledError
        step()

    def live(self, *steps: Callable[[], Any]) -> None:
        """From one look to the next."""
        self.steps = iter(steps)
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(converse(self))


def listening(host: FakeHost) -> set[tuple[str, str | None, str, int]]:
    return {ear for ear, sock in host.ears.items() if sock.fileno() != -1}


@pytest.fixture
def desk(engine: Engine, call: Call) -> Desk:
    """Tunnels home and other have the same address, so only one of them can lie in the host's namespace."""
    call("tunnel.create", name="home", addresses=[f"{HUB}/24"])
    call("peer.add", tunnel="home", name="far")
    text = TEXT.format(PRIVATE, HUB, key_of("site"))
    call("tunnel.import", name="other", text=text)
    return Desk(engine)


def test_it_listens_wherever_a_tunnel_lies(desk: Desk, call: Call, host: FakeHost) -> None:
    heard = []

    def look() -> None:
        heard.append(listening(host))

    def into() -> None:
        look()
        call("namespace.create", name="work", tunnel="home", kind="netns")
        call("tunnel.activate", name="other")

    def out() -> None:
        look()
        call("tunnel.deactivate", name="other")
        call("namespace.delete", name="work")

    desk.live(into, out, look)
    assert heard == [{OUTSIDE}, {INSIDE, OTHER}, {OUTSIDE}]
    assert listening(host) == set()


def test_where_it_may_not_enter_it_says_so_once_and_hears_the_others(
    desk: Desk, call: Call, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.refuse(NetNamespace)
    with pytest.raises(HostError, match="stored, but not made"):
        call("namespace.create", name="work", tunnel="home", kind="netns")
    call("tunnel.activate", name="other")
    heard = []
    desk.live(lambda: heard.append(listening(host)), host.relent, desk.engine.settle)
    assert heard == [{OTHER}]
    told = [record.getMessage() for record in caplog.records if "cannot hear" in record.getMessage()]
    assert told == ["cannot hear agents on wg-home: there is no network namespace wg-work of ours"]
    assert set(host.ears) == {INSIDE, OTHER}


class Line(asyncio.DatagramTransport):
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def sendto(self, data: Any, _addr: Any = None) -> None:
        self.sent.append(data)


def test_what_is_said_in_one_tunnel_is_not_answered_in_another(desk: Desk) -> None:
    """Though both have the same addresses."""
    far, identity = "10.13.13.2", "0123456789abcdef"
    home, other = (Ear(name, f"wg-{name}", None, HUB) for name in ("home", "other"))

    async def story() -> bool:
        conversation, lines = Conversation(desk), {home: Line(), other: Line()}
        conversation._ears.update(lines)
        telling = Telling("home", "far", ("wg-home",), HUB, far)
        asked = asyncio.create_task(conversation._ask(identity, telling, 5))
        await asyncio.sleep(0)
        assert [len(lines[ear].sent) for ear in (home, other)] == [1, 0]
        _, answer = conversation._awaited[identity]
        for ear in (other, home):
            assert not answer.done()
            conversation.heard(ear, lines[ear], encode(Heard(VERSION, identity)), (far, PORT))
        return await asked == Heard(VERSION, identity)

    assert asyncio.run(story())


def test_no_socket_is_lost_when_a_talk_is_given_up_that_waits_for_one(desk: Desk, host: FakeHost) -> None:
    async def story() -> None:
        conversation, busy = Conversation(desk), asyncio.Event()

        async def ask(work: Callable[[Engine], T]) -> T:
            await busy.wait()
            return work(desk.engine)

        desk.ask = ask
        talk = asyncio.create_task(conversation._open_ears())
        await asyncio.sleep(0)
        talk.cancel()
        busy.set()
        await asyncio.gather(talk, return_exceptions=True)
        async with asyncio.timeout(5):
            while not conversation._ears:
                await asyncio.sleep(0)
        assert {ear.interface for ear in conversation._ears} == {"wg-home"}
        for transport in conversation._ears.values():
            transport.close()

    asyncio.run(story())
    assert set(host.ears) == {OUTSIDE}
