"""/proc/net/tcp: which connections others opened to us."""

from shore.io.host.incoming import Connection, parse

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 010200C0:0016 057100CB:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0
   2: 010200C0:D431 08080808:01BB 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0
   3: 0100007F:0016 0100007F:C351 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: B80D0120000000000000000001000000:0016 B80D0120000000000000000002000000:C350 01 0 0 0 0 0
   1: 0000000000000000FFFF0000010200C0:0016 0000000000000000FFFF0000057100CB:C352 01 0 0 0 0 0
"""


def test_those_of_listening_ports_from_elsewhere() -> None:
    assert parse(TCP, 4, {22}) == [Connection(4, "192.0.2.1", 22, "203.0.113.5", 50000)]


def test_ipv4_inside_ipv6_is_ipv4() -> None:
    assert parse(TCP6, 6, {22}) == [
        Connection(6, "2001:db8::1", 22, "2001:db8::2", 50000),
        Connection(4, "192.0.2.1", 22, "203.0.113.5", 50002),
    ]
