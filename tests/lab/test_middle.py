"""A tunnel disturbed in the middle of its way up or down: hooks that ask, linger or hang, and kills."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from shore.lab.ends import PORT, ShoreEnd, StockEnd, sides
from shore.lab.net import Host, Net, run, until
from shore.model.keys import key_text

pytestmark = [pytest.mark.lab]
NOTHING = "no tunnel is up"
BEGUN = f"/run/shore-lab-{os.getpid()}.begun"
HANG = f"touch {BEGUN}; sleep 60"

MakeEnd = Callable[[str], ShoreEnd]


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        yield made


@pytest.fixture
def end_with(net: Net) -> Iterator[MakeEnd]:
    """Makes the end whose file has these lines more."""
    made: list[ShoreEnd] = []

    def make(extra: str) -> ShoreEnd:
        made.append(ShoreEnd(net.a, sides(f"192.0.2.2:{PORT}")[0], extra=extra))
        return made[-1]

    yield make
    for end in made:
        end.down()


def nothing_is_left(end: ShoreEnd) -> bool:
    return (
        end.shore("status").strip() == NOTHING
        and end.shore("cleanup").strip() == "nothing is left over"
        and "wg0" not in end.host.ip("link show")
        and not processes(end.host)
    )


def processes(host: Host) -> list[int]:
    return [int(pid) for pid in run("ip", "netns", "pids", host.namespace).split()]


def with_wg(command: str) -> str:
    """A hook that runs `wg`, which knows one directory only: it is given ours in a mount namespace."""
    place = "/var/run/wireguard"
    return f"unshare -m sh -c 'mkdir -p {place}; mount --bind $SHORE_UAPI_DIR {place}; {command}'"


def test_hooks_may_use_wg_on_their_tunnel(net: Net, end_with: MakeEnd) -> None:
    end = end_with("")
    seen = end.conf.parent / "seen"
    lines = f"PostUp = {with_wg('wg set %i fwmark 7')}\n"
    lines += f"PreDown = {with_wg('wg show %i fwmark')} > {seen}\n"
    end.conf.write_text(end.conf.read_text().replace("[Peer]", lines + "[Peer]"))
    end.up()
    assert "fwmark: 0x7" in end.shore("show", "wg0")
    end.shore("down", "wg0")
    assert seen.read_text() == "0x7\n"
    assert nothing_is_left(end)


def test_a_hook_may_set_the_private_key(net: Net, end_with: MakeEnd) -> None:
    end = end_with("")
    ours, theirs = sides(f"192.0.2.2:{PORT}")
    peer = StockEnd(net.b, theirs, "wireguard-go")
    key = end.conf.parent / "key"
    key.write_text(key_text(ours.private_key))
    end.conf.write_text(
        f"[Interface]\nAddress = 10.8.0.1/24\nPostUp = {with_wg(f'wg set %i private-key {key}')}\n"
        f"[Peer]\nPublicKey = {key_text(ours.peer_key)}\nAllowedIPs = 10.8.0.2\nEndpoint = {ours.endpoint}\n"
    )
    try:
        peer.up()
        end.up()
        assert net.a.reaches("10.8.0.2", pings=3)
        key.unlink()
        end.shore("reload", str(end.conf))
        assert net.a.reaches("10.8.0.2", pings=3)
        brain = end.brain_pid()
        os.kill(brain, signal.SIGKILL)
        until(lambda: end.shore("status", "wg0", check=False) != "" and end.brain_pid() != brain, 10)
        assert net.a.reaches("10.8.0.2", pings=3)
    finally:
        peer.down()


def test_what_a_hook_leaves_behind_is_not_waited_for(net: Net, end_with: MakeEnd) -> None:
    end = end_with("PostUp = sleep 60 & echo $!\n")
    began = time.monotonic()
    end.up()
    assert time.monotonic() - began < 30
    (left,) = set(processes(net.a)) - set(end.pids())
    os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
@pytest.mark.parametrize("hook", ["PreUp", "PostUp"])
def test_an_up_that_is_broken_off_is_undone(end_with: MakeEnd, hook: str, number: signal.Signals) -> None:
    end = end_with(f"{hook} = {HANG}\n")
    with end.start("up", str(end.conf)) as up:
        until(lambda: took(BEGUN), 20)
        up.send_signal(number)
        _, said = up.communicate(timeout=10)
    until(lambda: nothing_is_left(end), 10)
    if number == signal.SIGINT:
        assert (up.returncode, said) == (1, "shore: interrupted: what was begun is undone\n")


def test_a_hook_that_hangs_does_not_keep_a_tunnel_from_going_down(end_with: MakeEnd) -> None:
    end = end_with(f"PostUp = {HANG}\n")
    with end.start("up", str(end.conf)) as up:
        until(lambda: took(BEGUN), 20)
        end.shore("down", "wg0")
        assert nothing_is_left(end)
        assert up.communicate()[1] == "shore: it was told to go down before it was up\n"
        assert up.returncode == 1


def test_a_brain_that_is_killed_on_the_way_up_leaves_nothing(end_with: MakeEnd) -> None:
    end = end_with(f"PostUp = {HANG}\n")
    with end.start("up", str(end.conf)) as up:
        until(lambda: took(BEGUN), 20)
        os.kill(end.brain_pid(), signal.SIGKILL)
        assert "the brain died while it started" in up.communicate(timeout=20)[1]
        assert up.returncode == 1
    end_hooks(end)
    until(lambda: nothing_is_left(end), 10)


def test_a_brain_that_is_killed_on_the_way_down_is_replaced_by_one_that_finishes(end_with: MakeEnd) -> None:
    end = end_with(f"PreDown = test -e {BEGUN} || {{ {HANG}; }}\n")
    end.up()
    brain = end.brain_pid()
    with end.start("down", "wg0") as down:
        until(lambda: os.path.exists(BEGUN), 20)
        os.kill(brain, signal.SIGKILL)
        down.communicate(timeout=30)
    end_hooks(end)
    until(lambda: nothing_is_left(end), 10)
    assert took(BEGUN)


def test_two_ups_at_once_make_one_tunnel(end_with: MakeEnd) -> None:
    end = end_with("")
    for _ in range(3):
        both = [end.start("up", str(end.conf)) for _ in range(2)]
        said = [up.communicate(timeout=30)[1] for up in both]
        assert sorted(up.returncode for up in both) == [0, 1]
        refused = "shore: wg0 is up already: `shore reload wg0` or `shore down` first\n"
        assert sorted(said) == ["", refused]
        assert end.status().state == "up"
        end.shore("down", "wg0")


def test_what_was_half_up_when_everything_was_killed_is_cleaned_up(end_with: MakeEnd) -> None:
    end = end_with(f"PostUp = {HANG}\n")
    with end.start("up", str(end.conf)) as up:
        until(lambda: took(BEGUN), 20)
        for pid in (end.keeper_pid(), *end.pids()):
            os.kill(pid, signal.SIGKILL)
        up.communicate(timeout=20)
        assert up.returncode == 1
    end_hooks(end)
    assert end.shore("cleanup").strip() == "wg0: removed"
    until(lambda: nothing_is_left(end), 15)


def test_no_data_plane_outlives_a_kill_of_everything_in_any_order(end_with: MakeEnd) -> None:
    end = end_with("")
    for order in itertools.permutations(range(3)):
        end.up()
        pids = [end.plane_pid(), end.brain_pid(), end.keeper_pid()]
        for place in order:
            os.kill(pids[place], signal.SIGKILL)
        end.shore("cleanup")
        # A brain may have started one in its last instant: it carries nothing, and ends by itself.
        until(lambda: nothing_is_left(end), 15)


def took(path: str) -> bool:
    """Whether the file was there; it is not any more."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def end_hooks(end: ShoreEnd) -> None:
    """A hook outlives a brain that was killed; here it only sleeps."""
    for pid in processes(end.host):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except FileNotFoundError:
            continue
        if words[:2] == [b"sleep", b"60"]:
            os.kill(pid, signal.SIGKILL)
