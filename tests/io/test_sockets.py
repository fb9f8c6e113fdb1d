"""Sockets of a tunnel: where the kernel would send from."""

import socket

from shore.io.sockets import local_of


def test_the_local_address_is_the_kernels_choice_with_the_sockets_own_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("", 0))
        port = opened.getsockname()[1]
        assert local_of(opened, "127.0.0.1:9") == f"127.0.0.1:{port}"
        assert local_of(opened, "[::1]:9") is None, "the other family"
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as opened:
        opened.bind(("", 0))
        assert local_of(opened, "[::1]:9") == f"[::1]:{opened.getsockname()[1]}"


def test_a_socket_that_is_gone_sends_from_nowhere() -> None:
    assert local_of(None, "127.0.0.1:9") is None
