"""Lifecycle policies carried out: once a day, as AWS promises within 24 hours."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from cloudlet.control.clock import Timer
from cloudlet.services.ecr import lifecycle, records
from cloudlet.services.ecr.base import Base
from cloudlet.services.ecr.records import Repository
from cloudlet.store import Tx

_DAY = 86_400.0


class _Done(NamedTuple):
    """What a policy has done to a repository."""

    repository: Repository
    expired: list[tuple[str, list[str]]]  # digests, each with its tags
    layers: list[str]


class Expiry(Base):
    """The timers of lifecycle policies, and what they do."""

    async def start(self) -> None:
        await super().start()
        self._timers: dict[int, Timer] = {}
        for record in self.repositories.all():
            self.plan_expiry(record.scope, record.value)

    async def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        await super().stop()

    def plan_expiry(self, scope: str, repository: Repository) -> None:
        """See that a repository's lifecycle policy is carried out once a day."""
        if (timer := self._timers.pop(repository.number, None)) is not None:
            timer.cancel()
        if repository.lifecycle:
            self._timers[repository.number] = self.clock.call_at(
                repository.evaluated + _DAY,
                lambda: self.cloud.spawn(self._expire(scope, repository), f"ecr expires {repository.name}"),
            )

    async def _expire(self, scope: str, repository: Repository) -> None:
        now, number = self.clock.now(), repository.number

        def expire(tx: Tx) -> _Done | None:
            record = self.repositories.get(scope, repository.name, tx)
            if record is None or record.value.number != number or not record.value.lifecycle:
                return None
            evaluated = self.repositories.put(tx, scope, repository.name, replace(record.value, evaluated=now))
            done = _Done(evaluated.value, [], [])
            rules = lifecycle.read(record.value.lifecycle)
            for seen, rule in lifecycle.due(rules, records.seen(tx, number), now):
                self._carry_out(tx, scope, seen.image.digest, rule.action, now, done)
            return done

        done = await self.db.write(expire, long=True)
        if done is None:
            return
        self.plan_expiry(scope, done.repository)
        for digest, tags in done.expired:
            for tag in tags or [""]:
                self.announce_image(scope, repository, "DELETE", digest, tag)
        await self.delete_files(done.repository, done.layers)
        self.dropped()

    def _carry_out(self, tx: Tx, scope: str, digest: str, action: str, now: float, done: _Done) -> None:
        """Expire or archive an image, and what is attached to it."""
        number = done.repository.number
        attached = [image.digest for image, _ in records.attached(tx, number, digest)]
        if action == "expire":
            done.expired.append((digest, records.tags_of(tx, number, digest)))
            done.layers.extend(self.drop(tx, scope, done.repository, digest))
        else:
            records.archive(tx, number, digest, now)
        for other in attached:
            self._carry_out(tx, scope, other, action, now, done)
