"""DNS messages: read from the wire, and answered with what our zones say."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloudlet.services.route53 import names, rdata
from cloudlet.services.route53.answers import Answer, Entry, Question
from cloudlet.services.route53.rdata import BadValue

if TYPE_CHECKING:
    import dns.message
    import dns.rrset

log = logging.getLogger("cloudlet.dns")

_UDP = 1232  # bytes of an answer that passes every network unbroken
_UDP_LEAST = 512  # bytes that every client takes
_TCP = 65535


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and its response in the making; ``subnet`` is what the client is said to be in, or empty."""

    message: dns.message.Message
    response: dns.message.Message
    question: Question
    protocol: str
    client: str
    subnet: str
    most: int  # bytes of the response

    def answered(self, found: Answer) -> bytes:
        """The response that says this."""
        import dns.flags
        import dns.rcode

        response = self.response
        response.set_rcode(dns.rcode.from_text(found.rcode))
        if found.rcode != "SERVFAIL":
            response.flags |= dns.flags.AA
        try:
            response.answer = [_rrset(entry) for entry in found.entries if entry.values]
            response.authority = [_rrset(entry) for entry in found.authority]
        except BadValue as error:
            log.warning("a record cannot be sent: %s", error)
            response.answer, response.authority = [], []
            response.set_rcode(dns.rcode.SERVFAIL)
        return self.packed(response)

    def packed(self, response: dns.message.Message) -> bytes:
        """A message in as many bytes as the client takes; what does not fit is left out, and said to be (RFC 2181)."""
        import dns.exception
        import dns.flags

        try:
            return response.to_wire(max_size=self.most)
        except dns.exception.TooBig:
            response.answer, response.authority, response.additional = [], [], []
            response.flags |= dns.flags.TC
            return response.to_wire(max_size=max(self.most, _UDP_LEAST))


def read(wire: bytes, protocol: str, client: str) -> Exchange | bytes | None:
    """What is asked; the response where that can be no question; None where there is nothing to respond to."""
    import dns.exception
    import dns.flags
    import dns.message
    import dns.opcode
    import dns.rcode
    import dns.rdataclass
    import dns.rdatatype

    if len(wire) < 12 or wire[2] & 0x80:
        return None
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
        response = dns.message.make_response(message, recursion_available=True, our_payload=_UDP)
    except (dns.exception.DNSException, ValueError):
        return wire[:2] + bytes((0x80 | wire[2] & 0x79, 0x01)) + bytes(8)  # FORMERR
    refused = None
    if message.edns > 0:
        refused = dns.rcode.BADVERS
    elif message.opcode() != dns.opcode.QUERY or len(message.question) != 1:
        refused = dns.rcode.NOTIMP
    elif message.question[0].rdclass != dns.rdataclass.IN or dns.rdatatype.is_metatype(message.question[0].rdtype):
        refused = dns.rcode.REFUSED
    if refused is not None:
        response.set_rcode(refused)
        return response.to_wire()
    asked = message.question[0]
    name = names.of_labels(asked.name.labels[:-1]) if len(asked.name) > 1 else "."
    subnet = _subnet(message, response)
    most = _TCP
    if protocol == "UDP":
        most = min(max(message.payload, _UDP_LEAST), _UDP) if message.edns >= 0 else _UDP_LEAST
    client = subnet.partition("/")[0] or client
    return Exchange(message, response, Question(name, asked.rdtype.name), protocol, client, subnet, most)


def _subnet(message: dns.message.Message, response: dns.message.Message) -> str:
    """The client's network as the message tells it (RFC 7871), which the response repeats; empty without one."""
    import dns.edns

    for option in message.options:
        if isinstance(option, dns.edns.ECSOption):
            seen = dns.edns.ECSOption(option.address, option.srclen, option.srclen)
            response.use_edns(0, 0, _UDP, message.payload, options=[seen])
            return f"{option.address}/{option.srclen}"
    return ""


def _rrset(entry: Entry) -> dns.rrset.RRset:
    import dns.name
    import dns.rrset

    name = dns.name.from_text(rdata.decimal(entry.name))
    return dns.rrset.from_rdata_list(name, entry.ttl, [rdata.parsed(entry.type, value) for value in entry.values])
