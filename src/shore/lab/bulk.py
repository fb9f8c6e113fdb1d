"""Bulk traffic between two hosts, made by iperf3."""

import contextlib
import subprocess
import time
from collections.abc import Iterator

from shore.lab.net import Host


@contextlib.contextmanager
def iperf_server(host: Host, address: str) -> Iterator[None]:
    """An iperf3 server in a host, for one run."""
    server = subprocess.Popen(
        host.inside("iperf3", "-s", "-1", "-B", address),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.3)
    try:
        yield
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def datagrams(host: Host, server: Host, address: str, rate: str = "300M") -> Iterator[None]:
    """So many bits of 1,200-byte datagrams a second from a host to a server at its address."""
    with iperf_server(server, address):
        words = ["iperf3", "-c", address, "-u", "-b", rate, "-l", "1200", "-t", "120"]
        client = subprocess.Popen(host.inside(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        try:
            yield
        finally:
            client.kill()
            client.wait()
