"""The front of the DNS server, without its process."""

from __future__ import annotations

from cloudlet.services.route53.front import Front

QUESTION = bytes((0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + b"\x03www\x04shop\x07example\x00\x00\x01\x00\x01"


class Control:
    """A control plane that is slow."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def send(self, number: int, body: bytes) -> None:
        if number:
            self.asked.append(number)


def test_a_flood_is_dropped_and_what_was_taken_is_answered() -> None:
    front, control, replies = Front(), Control(), list[bytes]()
    front.joined(control)  # type: ignore[arg-type]
    response = QUESTION[:2] + b"\x81" + QUESTION[3:]
    for _ in range(5000):
        front.respond(response, "UDP", "127.0.0.1", replies.append)
        front.respond(QUESTION, "UDP", "127.0.0.1", replies.append)
    assert len(control.asked) == 1000
    for number in list(control.asked):
        front.answered(number, QUESTION[:2] + b"\x81\x80" + QUESTION[4:])
    assert len(replies) == 1000
    front.respond(QUESTION, "UDP", "127.0.0.1", replies.append)
    assert len(control.asked) == 1001
