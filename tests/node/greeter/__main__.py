"""A program as the server and the relay are: it serves on a socket of its parent, and says when it does."""

import argparse
import os
import socket


def main() -> None:
    """Tell its process id and user to whoever connects."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--door-fd", type=int, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    asked = parser.parse_args()
    if asked.fail:
        raise SystemExit("it will not")
    door = socket.socket(fileno=asked.door_fd)
    os.write(asked.ready_fd, b"\n")
    os.close(asked.ready_fd)
    while True:
        client, _ = door.accept()
        with client:
            client.sendall(f"{os.getpid()} {os.getuid()}".encode())
