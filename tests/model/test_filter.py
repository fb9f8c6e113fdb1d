"""What no data plane could take is refused where it is read."""

import msgspec
import pytest

from shore.model.filter import Ports


@pytest.mark.parametrize(
    "written",
    [
        {"protocol": 256},
        {"protocol": -1},
        {"protocol": "tpc"},
        {"first": -1},
        {"last": 65536},
    ],
)
def test_a_number_that_no_header_holds_is_refused(written: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(written), type=Ports)


@pytest.mark.parametrize("ports", [Ports(), Ports("icmp"), Ports(255, 0, 65535), Ports("tcp", 0, 0)])
def test_what_one_holds_is_taken(ports: Ports) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ports), type=Ports) == ports
