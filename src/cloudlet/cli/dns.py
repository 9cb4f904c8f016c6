"""``cloudlet dns``: where the DNS server is, and what it says of a name."""

from __future__ import annotations

from typing import Any

import click

from cloudlet.cli.remote import Remote, of_a_running_cloud, show

_PATIENCE = 10.0  # seconds


@click.command()
@click.argument("name", required=False)
@click.argument("type", required=False, default="A")
@of_a_running_cloud
def command(name: str | None, type: str, endpoint: str | None, data_dir: str | None, as_json: bool) -> None:
    """Show the DNS server and how to use it, or ask it for NAME (of TYPE, A by default)."""
    server = Remote(endpoint, data_dir).control("dns")
    if name is not None:
        _ask(server, name, type.upper(), as_json)
    elif as_json:
        show(server)
    else:
        _explain(**server)


def _explain(address: str, port: int) -> None:
    """Tell how programs of this machine are made to ask the server."""
    at = address if port == 53 else f"{address}:{port}"
    click.echo(f"The DNS server answers at {address} port {port}, by UDP and TCP.")
    click.echo("It knows the hosted zones, Cloud Map's namespaces and *.localhost; all else it asks your resolvers.")
    click.echo("Functions, and tasks in containers, ask it without any set-up.\n")
    click.echo(f"ask it once:             dig @{address} -p {port} NAME    or: cloudlet dns NAME")
    click.echo(f"with systemd-resolved:   resolvectl dns lo {at} && resolvectl domain lo '~YOUR.DOMAIN'")
    if port == 53:
        click.echo(f"without it:              put 'nameserver {address}' first in /etc/resolv.conf")
        click.echo(f"on macOS:                put 'nameserver {address}' in /etc/resolver/YOUR.DOMAIN")
    else:
        click.echo(
            f"on macOS:                put 'nameserver {address}' and 'port {port}' in /etc/resolver/YOUR.DOMAIN"
        )
        click.echo(
            "\nPort 53 may not be bound here, and /etc/resolv.conf can name no other: start Cloudlet as root, or"
        )
        click.echo("run once: sudo sysctl net.ipv4.ip_unprivileged_port_start=53")


def _ask(server: dict[str, Any], name: str, kind: str, as_json: bool) -> None:
    """Ask the server and print its answer; a name that is not there ends with exit code 1."""
    import dns.exception
    import dns.message
    import dns.query
    import dns.rcode

    try:
        query = dns.message.make_query(name, kind, use_edns=0, payload=1232)
        found, _ = dns.query.udp_with_fallback(query, server["address"], _PATIENCE, server["port"])
    except (dns.exception.DNSException, OSError, ValueError) as error:
        raise click.ClickException(f"{name} {kind}: {error or type(error).__name__}") from None
    rcode = dns.rcode.to_text(found.rcode())
    records = [
        {"name": rrset.name.to_text(), "type": rrset.rdtype.name, "ttl": rrset.ttl, "value": record.to_text()}
        for rrset in found.answer
        for record in rrset
    ]
    if as_json:
        show({"rcode": rcode, "records": records})
    elif not records:
        click.echo(f"{name} {kind}: {'no such record' if rcode == 'NOERROR' else rcode}", err=True)
    else:
        for one in records:
            click.echo(f"{one['name']}  {one['ttl']}  {one['type']}  {one['value']}")
    if not records:
        raise SystemExit(1)
