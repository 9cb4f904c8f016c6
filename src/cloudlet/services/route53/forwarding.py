"""Questions about names that are not ours, asked of this machine's resolvers with a time limit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cloudlet.services.route53.answers import Entry
from cloudlet.services.route53.names import of_labels

if TYPE_CHECKING:
    import dns.message

log = logging.getLogger("cloudlet.dns")

RESOLV_CONF = Path("/etc/resolv.conf")
_RESOLVERS = 3  # as many as the system's own library asks


def resolv_conf_lines() -> list[str]:
    """The system's own settings of names, line by line."""
    try:
        return RESOLV_CONF.read_text().splitlines()
    except OSError:
        return []


def system_resolvers() -> list[tuple[str, int]]:
    """The resolvers that this machine is told to ask."""
    words = (line.split() for line in resolv_conf_lines())
    return [(line[1], 53) for line in words if len(line) > 1 and line[0] == "nameserver"]


class Forwarder:
    """Asks the resolvers in their order; the first that answers is believed."""

    def __init__(
        self, resolvers: Callable[[], list[tuple[str, int]]] = system_resolvers, patience: float = 2.0
    ) -> None:
        """``patience`` is how many seconds each resolver is waited for."""
        self._resolvers = resolvers
        self._patience = patience
        self.avoid: set[tuple[str, int]] = set()  # our own addresses: asking ourselves would never end

    async def forward(self, message: dns.message.Message) -> dns.message.Message | None:
        """The answer to a message, with its id; None when nobody answers in time."""
        import dns.asyncquery
        import dns.exception
        import dns.message

        question = message.question[0]
        query = dns.message.make_query(question.name, question.rdtype, question.rdclass, use_edns=0, payload=1232)
        query.flags = message.flags
        for address, port in [one for one in self._resolvers() if one not in self.avoid][:_RESOLVERS]:
            try:
                found, _ = await dns.asyncquery.udp_with_fallback(
                    query, address, self._patience, port, ignore_unexpected=True
                )
            except (dns.exception.DNSException, OSError, EOFError) as error:
                log.debug("the resolver %s has no answer: %s", address, error)
                continue
            found.id = message.id
            if message.edns < 0:
                found.use_edns(False)
            return found
        return None

    async def ask(self, name: str, kind: str) -> tuple[Entry, ...]:
        """The records of a name, those that its aliases lead to with it; none when nobody answers."""
        import dns.message
        import dns.rdatatype

        from cloudlet.services.route53.rdata import decimal

        found = await self.forward(dns.message.make_query(decimal(name), kind))
        return tuple(
            Entry(
                of_labels(rrset.name.labels[:-1]),
                dns.rdatatype.to_text(rrset.rdtype),
                rrset.ttl,
                tuple(record.to_text() for record in rrset),
            )
            for rrset in (found.answer if found is not None else ())
        )
