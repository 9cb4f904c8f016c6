"""Listeners and the filters that take up what they accept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cloudlet.mesh.clusters import socket_address
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import extension

_FILTERS = "extensions.filters."


def listener(name: str, address: str, port: int, chains: Sequence[Resource], **more: Any) -> Resource:
    """A TCP listener; one on ``::`` takes what comes over IPv4 too.

    It never shares its port with another process, which would be given half of its connections, unless
    ``enable_reuse_port`` says so.
    """
    where = socket_address(address, port)
    if address == "::":
        where["socket_address"]["ipv4_compat"] = True
    return {
        "name": name,
        "address": where,
        "filter_chains": list(chains),
        "enable_reuse_port": False,
        **more,
    }


def filter_chain(
    filters: Sequence[Resource], *, tls: Resource | None = None, server_names: Sequence[str] = ()
) -> Resource:
    """What is done with connections; with ``server_names`` only with those whose SNI is one of them."""
    made: Resource = {"filters": list(filters)}
    if server_names:
        made["filter_chain_match"] = {"server_names": list(server_names)}
    if tls is not None:
        made["transport_socket"] = tls
    return made


def tls_inspector() -> Resource:
    """The listener filter that reads the SNI, for chains with ``server_names``."""
    return extension("envoy.filters.listener.tls_inspector", f"{_FILTERS}listener.tls_inspector.v3.TlsInspector")


def http_manager(
    stat_prefix: str,
    *,
    routes: str,
    filters: Sequence[Resource] = (),
    access_logs: Sequence[Resource] = (),
    silent: bool = True,
    **more: Any,
) -> Resource:
    """The HTTP connection manager with the snapshot's ``routes[routes]``; ``router`` comes after ``filters``."""
    return extension(
        "envoy.filters.network.http_connection_manager",
        f"{_FILTERS}network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=stat_prefix,
        rds={"route_config_name": routes},
        http_filters=[*filters, router(silent)],
        access_log=list(access_logs),
        upgrade_configs=[{"upgrade_type": "websocket"}],
        **more,
    )


def router(silent: bool = True) -> Resource:
    """The last HTTP filter; a silent one adds no headers of Envoy's own."""
    own = {"suppress_envoy_headers": True} if silent else {}
    return extension("envoy.filters.http.router", f"{_FILTERS}http.router.v3.Router", **own)


def tcp_proxy(
    stat_prefix: str,
    clusters: Mapping[str, int],
    *,
    idle_timeout: str = "",
    access_logs: Sequence[Resource] = (),
    sticky: bool = False,
) -> Resource:
    """Pass bytes on to one of the clusters by weight; ``sticky`` chooses by the source address."""
    made: Resource = {"stat_prefix": stat_prefix}
    if len(clusters) == 1:
        made["cluster"] = next(iter(clusters))
    else:
        made["weighted_clusters"] = {
            "clusters": [{"name": name, "weight": weight} for name, weight in clusters.items()]
        }
    if idle_timeout:
        made["idle_timeout"] = idle_timeout
    if access_logs:
        made["access_log"] = list(access_logs)
    if sticky:
        made["hash_policy"] = [{"source_ip": {}}]
    return extension("envoy.filters.network.tcp_proxy", f"{_FILTERS}network.tcp_proxy.v3.TcpProxy", **made)


def udp_listener(name: str, address: str, port: int, proxy: Resource) -> Resource:
    """A UDP listener. Each worker has a socket of its own, and a client stays with one of them."""
    return {
        "name": name,
        "address": socket_address(address, port, "UDP"),
        "udp_listener_config": {"downstream_socket_config": {}},
        "listener_filters": [proxy],
        "enable_reuse_port": True,
    }


def udp_proxy(stat_prefix: str, cluster: str, *, idle_timeout: str, sticky: bool = False) -> Resource:
    """Pass datagrams on to a cluster, those of one client to one endpoint; ``sticky`` chooses it by the address."""
    route = extension("route", f"{_FILTERS}udp.udp_proxy.v3.Route", cluster=cluster)
    made: Resource = {"stat_prefix": stat_prefix, "matcher": {"on_no_match": {"action": route}}}
    if sticky:
        made["hash_policies"] = [{"source_ip": True}]
    return extension(
        "envoy.filters.udp_listener.udp_proxy",
        f"{_FILTERS}udp.udp_proxy.v3.UdpProxyConfig",
        idle_timeout=idle_timeout,
        **made,
    )
