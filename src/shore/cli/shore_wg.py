"""`shore-wg [-f] NAME`: a drop-in for wireguard-go and boringtun-cli.

It makes the device and its UAPI socket and takes everything else from `wg`; addresses and routes are the
caller's. With WG_QUICK_USERSPACE_IMPLEMENTATION=shore-wg, wg-quick and its systemd unit run on Shore
unchanged, with the same watchdogs behind them.
"""

import signal
import sys

import click

from shore.cli.start import NotStarted, start, take_down
from shore.io.runtime import Runtime
from shore.model.config import TunnelConfig
from shore.wire import api
from shore.wire.wgconf import NAME, NAME_RULE


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-f", "--foreground", is_flag=True, help="Stay until the device is deleted.")
@click.argument("name")
def main(name: str, foreground: bool) -> None:
    """Make the WireGuard device NAME, to be configured by `wg`; ready when this returns.

    Delete the device or its socket in /var/run/wireguard to end it.
    """
    if not NAME.fullmatch(name):
        click.echo(f"shore-wg: `{name}` cannot name a device: {NAME_RULE}", err=True)
        sys.exit(2)
    runtime = Runtime(name)
    request = api.Start(TunnelConfig(name, None, host_managed=False, probing=False))
    try:
        keeper, _ = start(runtime, request)
    except NotStarted as error:
        click.echo(f"shore-wg: {error}", err=True)
        sys.exit(1)
    if foreground:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: take_down(runtime))
        keeper.wait()
