"""What strangers get wrong (issue 3, §5): one sentence, an exit code, and nothing left behind."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from shore import _native
from shore.io.user import NOBODY
from shore.lab.ends import PORT, ShoreEnd, StockEnd, sides
from shore.lab.net import Host, LabFailed, Net, run, until
from shore.model.keys import key_text

pytestmark = [pytest.mark.lab]
NOT_ROOT = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
WITHOUT_NET_ADMIN = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
WITHOUT_TUN = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh")
ONE_PEER = f"[Peer]\nPublicKey = {key_text(b'1' * 32)}\nAllowedIPs = 10.8.0.0/16, 10.8.0.2\n"
SQUATTER = (
    "import socket, time; s = socket.socket(2, 2); s.bind(('', 51820)); print(flush=True); time.sleep(60)"
)


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        yield made


@pytest.fixture
def end(net: Net) -> Iterator[ShoreEnd]:
    made = ShoreEnd(net.a, sides(f"192.0.2.2:{PORT}")[0])
    yield made
    made.down()


def said(end: ShoreEnd, *words: str, under: Sequence[str] = ()) -> tuple[int, str]:
    """Exit code and stderr of `shore`, run by way of another command."""
    with end.start(*words, under=under) as process:
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def everything(end: ShoreEnd) -> str:
    """All that a failed start might leave on a host."""
    shown = (
        "ip address",
        "ip route show table all",
        "ip -6 route show table all",
        "ip rule",
        "nft list ruleset",
    )
    seen = [end.host.run(*command.split()) for command in (*shown, "nft list ruleset")]
    runtime = end.conf.parent / "run"
    files = sorted(str(path) for place in (runtime, end.uapi) if place.exists() for path in place.rglob("*"))
    until(lambda: not run("ip", "netns", "pids", end.host.namespace), 5)
    return "\n".join([*seen, *files])


def without_right(host: Host) -> None:
    try:
        host.run(*NOT_ROOT, "true")
    except LabFailed as error:
        pytest.skip(f"LAB SKIPPED: another user is needed: {error}")


@pytest.mark.parametrize(
    ("more", "line", "sentence"),
    [
        ("[Peer]\nPublickey = abc\n", 10, "a key is 44 characters of base64, as `wg genkey` prints them"),
        ("AlowedIPs = ::/0\n", 9, "[Peer] has no key `AlowedIPs`: did you mean AllowedIPs?"),
        (
            ONE_PEER,
            9,
            "AllowedIPs 10.8.0.2/32 also belongs to the peer in line 5: "
            "a prefix has one peer (nested prefixes are fine)",
        ),
        ("[Peer]\nPublicKey = OWN\n", 9, "this peer's PublicKey is our own: put the other side's key here"),
    ],
    ids=["no key", "no such word", "overlapping AllowedIPs", "own key"],
)
def test_a_wrong_file(end: ShoreEnd, more: str, line: int, sentence: str) -> None:
    own = key_text(_native.public_key(end.side.private_key))
    end.conf.write_text(end.conf.read_text() + more.replace("OWN", own))
    before = everything(end)
    assert said(end, "up", str(end.conf)) == (1, f"shore: {end.conf}:{line}: {sentence}\n")
    assert everything(end) == before


@pytest.mark.parametrize(
    ("under", "sentence"),
    [
        (WITHOUT_NET_ADMIN, "no right to make the device wg0: run as root"),
        (WITHOUT_TUN, "/dev/net/tun is missing: load the module with `modprobe tun`"),
    ],
    ids=["no right", "no TUN"],
)
def test_a_host_that_gives_no_device(end: ShoreEnd, under: Sequence[str], sentence: str) -> None:
    before = everything(end)
    assert said(end, "up", str(end.conf), under=under) == (1, f"shore: {sentence}\n")
    assert everything(end) == before


def test_a_port_in_use(net: Net, end: ShoreEnd) -> None:
    with subprocess.Popen(net.a.inside(sys.executable, "-c", SQUATTER), stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        answer = said(end, "up", str(end.conf))
        owner.kill()
    sentence = "UDP port 51820 is in use: stop its owner (`ss -ulnp`) or choose another ListenPort"
    assert answer == (1, f"shore: {sentence}\n")
    assert "wg0" not in everything(end).replace(str(end.conf), "")


def test_a_hook_that_fails(end: ShoreEnd) -> None:
    end.conf.write_text(end.conf.read_text().replace("[Peer]", "PostUp = echo no luck; exit 7\n[Peer]"))
    before = everything(end)
    sentence = "PostUp `echo no luck; exit 7` exited with 7: no luck"
    assert said(end, "up", str(end.conf)) == (1, f"shore: {sentence}\n")
    assert everything(end) == before


def test_a_second_up(end: ShoreEnd) -> None:
    end.up()
    brain = end.brain_pid()
    sentence = "wg0 is up already: `shore reload wg0` or `shore down` first"
    assert said(end, "up", str(end.conf)) == (1, f"shore: {sentence}\n")
    assert (end.brain_pid(), end.status().state) == (brain, "up")


def test_a_user_without_rights_is_told_so_by_every_command(net: Net, end: ShoreEnd, tmp_path: Path) -> None:
    without_right(net.a)
    end.up()
    end.conf.parent.chmod(0o755)
    theirs = end.conf.parent / "theirs"
    theirs.mkdir()
    conf = theirs / "wg0.conf"
    conf.write_text(end.conf.read_text())
    conf.chmod(0o600)
    for path in (conf, theirs):
        os.chown(path, NOBODY, NOBODY)
    peer = key_text(end.side.peer_key)
    ask = "no right to ask wg0: run as root"
    expected = {
        ("up", str(end.conf)): f"{end.conf}: permission denied",
        ("up", str(conf)): f"{end.conf.parent}/run/wg0: operation not permitted: run as root",
        ("down", "wg0"): ask,
        ("reload", str(conf)): ask,
        ("status", "wg0"): ask,
        ("status",): "only root may list the tunnels: name one, or run as root",
        ("show", "wg0"): ask,
        ("rekey", peer, "wg0"): ask,
        ("confirm", "wg0"): ask,
        ("log", "wg0"): "no right to read the log of wg0: run as root",
        ("cleanup",): "only root may clean up: run as root",
    }
    for words, sentence in expected.items():
        assert (words, said(end, *words, under=NOT_ROOT)) == (words, (1, f"shore: {sentence}\n"))
    assert end.status().state == "up"


def test_a_name_that_does_not_resolve_is_asked_again_until_it_does(net: Net) -> None:
    try:
        net.a.resolve_by("192.0.2.2")
    except LabFailed as error:
        pytest.skip(f"LAB SKIPPED: {error}")
    ours, theirs = sides(f"vpn.example.net:{PORT}")
    shore, stock = ShoreEnd(net.a, ours), StockEnd(net.b, theirs, "wireguard-go")
    try:
        stock.up()
        shore.up()
        until(lambda: "vpn.example.net does not resolve" in shore.log(), 10)
        assert not net.a.reaches("10.8.0.2")
        words = net.b.inside(sys.executable, "-m", "shore.lab.nameserver", "192.0.2.2")
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as names:
            try:
                until(lambda: net.a.reaches("10.8.0.2", within_s=1), 40)
            finally:
                names.kill()
        assert shore.status().peers[0].endpoint == f"192.0.2.2:{PORT}"
    finally:
        shore.down()
        stock.down()
