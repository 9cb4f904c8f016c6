"""Pull through cache: an image that somebody pulls, and that is not here, is fetched from an upstream registry.

A tag is asked for upstream again after a day. Of an index, its images are fetched when they are pulled themselves.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import records
from cloudlet.services.ecr.base import scope_of
from cloudlet.services.ecr.manifests import Manifest
from cloudlet.services.ecr.records import CacheRule, Repository
from cloudlet.services.ecr.repositories import read_token, token_of
from cloudlet.services.ecr.templates import Templates
from cloudlet.services.ecr.upstreams import CannotFetch, Upstream, kind_of, upstream
from cloudlet.store import Resources, Tx

log = logging.getLogger("cloudlet.ecr")

_DAY = 86_400.0
_PAGE = 100
_ROOT = "ROOT"


class Caching(Templates):
    """Operations on the rules of the cache, and the fetching."""

    rules: Resources[CacheRule]

    async def start(self) -> None:
        await super().start()
        self.rules = self.db.resources(CacheRule)
        self._fetching: dict[str, asyncio.Lock] = {}

    async def CreatePullThroughCacheRule(self, call: Call, input: Input) -> Output:
        scope, prefix = scope_of(call, input), input["ecrRepositoryPrefix"].removesuffix("/")
        url, secret, role = input["upstreamRegistryUrl"], input.get("credentialArn", ""), input.get("customRoleArn", "")
        kind = kind_of(url, input.get("upstreamRegistry", ""), secret, role, scope.split("/")[0])
        await self._see_secret(scope, secret)
        now = self.clock.now()
        theirs = input.get("upstreamRepositoryPrefix", _ROOT).removesuffix("/")
        rule = CacheRule(prefix, url, kind, now, now, theirs, secret, role)

        def create(tx: Tx) -> None:
            if self.rules.get(scope, prefix, tx) is not None:
                raise AwsError(
                    "PullThroughCacheRuleAlreadyExistsException",
                    f"A pull through cache rule with prefix '{prefix}' already exists in the registry with id "
                    f"'{scope.split('/')[0]}'",
                )
            self.rules.put(tx, scope, prefix, rule)

        await self.db.write(create)
        shown = _shown(scope, rule)
        del shown["updatedAt"]
        return shown

    async def UpdatePullThroughCacheRule(self, call: Call, input: Input) -> Output:
        scope, now = scope_of(call, input), self.clock.now()
        await self._see_secret(scope, input.get("credentialArn", ""))

        def update(tx: Tx) -> CacheRule:
            before = self._rule(scope, input["ecrRepositoryPrefix"], tx)
            after = replace(
                before,
                updated=now,
                credential=input.get("credentialArn", before.credential),
                role=input.get("customRoleArn", before.role),
            )
            return self.rules.put(tx, scope, before.prefix, after).value

        return _shown(scope, await self.db.write(update))

    async def DescribePullThroughCacheRules(self, call: Call, input: Input) -> Output:
        scope = scope_of(call, input)
        if prefixes := input.get("ecrRepositoryPrefixes"):
            return {"pullThroughCacheRules": [_shown(scope, self._rule(scope, prefix)) for prefix in prefixes]}
        after, limit = read_token(input["nextToken"]) if "nextToken" in input else "", input.get("maxResults", _PAGE)
        found = [record.value for record in self.rules.list(scope) if record.name > after]
        output: Output = {"pullThroughCacheRules": [_shown(scope, rule) for rule in found[:limit]]}
        return output | ({"nextToken": token_of(found[limit - 1].prefix)} if len(found) > limit else {})

    async def DeletePullThroughCacheRule(self, call: Call, input: Input) -> Output:
        scope = scope_of(call, input)

        def delete(tx: Tx) -> CacheRule:
            rule = self._rule(scope, input["ecrRepositoryPrefix"], tx)
            self.rules.delete(tx, scope, rule.prefix)
            return rule

        return _shown(scope, await self.db.write(delete))

    async def ValidatePullThroughCacheRule(self, call: Call, input: Input) -> Output:
        scope = scope_of(call, input)
        rule = self._rule(scope, input["ecrRepositoryPrefix"])
        try:
            await upstream(self, scope, rule, "validation").ping()
        except CannotFetch as error:
            return _shown(scope, rule) | {"isValid": False, "failure": str(error)}
        return _shown(scope, rule) | {"isValid": True}

    async def fill(self, scope: str, name: str, reference: str) -> None:
        """Fetch an image that is about to be pulled, where a rule says so and it is not here, or no longer known."""
        rule = self._rule_for(scope, name)
        if rule is None or await self._is_known(scope, name, reference):
            return
        key = f"{scope}/{name}"
        async with self._fetching.setdefault(key, asyncio.Lock()):
            if not await self._is_known(scope, name, reference):
                await self._fetch(scope, rule, name, reference)
        self._fetching.pop(key, None)

    async def _fetch(self, scope: str, rule: CacheRule, name: str, reference: str) -> None:
        rest = name if rule.prefix == _ROOT else name.removeprefix(f"{rule.prefix}/")
        theirs = rest if rule.upstream_prefix == _ROOT else f"{rule.upstream_prefix}/{rest}"
        tag = "" if ":" in reference else reference
        detail = {
            "rule-version": "1",
            "sync-status": "SUCCESS",
            "ecr-repository-prefix": rule.prefix,
            "repository-name": name,
            "upstream-registry-url": rule.url,
        }
        try:
            source = upstream(self, scope, rule, theirs)
            manifest = await source.manifest(reference)
            record = self.repositories.get(scope, name)
            repository = (
                record.value if record is not None else await self.make_repository(scope, name, "PULL_THROUGH_CACHE")
            )
            await self._import(scope, repository, source, manifest, tag)
            detail["image-digest"] = manifest.digest
        except (CannotFetch, AwsError) as error:
            # Whoever pulls gets what is here already, or hears that it is not.
            log.warning("nothing of %s for %s: %s", rule.url, name, error)
            detail["sync-status"] = "FAILED"
        detail |= {"image-tag": tag} if tag else {"image-digest": reference}
        self.announce(scope, "ECR Pull Through Cache Action", detail, name)

    async def _import(self, scope: str, repository: Repository, source: Upstream, manifest: Manifest, tag: str) -> None:
        for digest in manifest.layers:
            if await self.layer_size(repository, digest) is None:
                await source.layer(repository, digest)
        now = self.clock.now()

        def store(tx: Tx) -> None:
            self.push(tx, scope, repository, dataclasses.replace(manifest, images=[]), tag, now)
            records.add_parts(tx, repository.number, manifest.digest, manifest.images)
            if tag:
                records.set_checked(tx, repository.number, tag, now)

        await self.db.write(store)
        self.stored()

    async def _is_known(self, scope: str, name: str, reference: str) -> bool:
        """Whether an image is here, and its tag was compared with upstream within a day."""
        record = self.repositories.get(scope, name)
        if record is None:
            return False
        number = record.value.number
        if ":" in reference:
            return await self.db.read(lambda tx: records.image(tx, number, reference)) is not None
        seen = await self.db.read(lambda tx: records.checked(tx, number, reference))
        return seen is not None and self.clock.now() - seen < _DAY

    async def _see_secret(self, scope: str, secret: str) -> None:
        """Raises SecretNotFoundException."""
        if not secret:
            return
        account, region = scope.split("/")
        try:
            await self.cloud.call(
                "secretsmanager", "DescribeSecret", {"SecretId": secret}, account=account, region=region
            )
        except AwsError:
            raise AwsError(
                "SecretNotFoundException",
                "The ARN of the secret specified in the pull through cache rule was not found. Update the pull through "
                "cache rule with a valid secret ARN and try again.",
            ) from None

    def _rule(self, scope: str, prefix: str, tx: Tx | None = None) -> CacheRule:
        """Raises PullThroughCacheRuleNotFoundException."""
        record = self.rules.get(scope, prefix.removesuffix("/"), tx)
        if record is None:
            raise AwsError(
                "PullThroughCacheRuleNotFoundException",
                f"The pull through cache rule with prefix '{prefix}' does not exist in the registry with id "
                f"'{scope.split('/')[0]}'",
            )
        return record.value

    def _rule_for(self, scope: str, name: str) -> CacheRule | None:
        """The rule of the longest prefix that a repository's name has."""
        parts = name.split("/")
        for length in range(len(parts) - 1, 0, -1):
            if (record := self.rules.get(scope, "/".join(parts[:length]))) is not None:
                return record.value
        root = self.rules.get(scope, _ROOT)
        return root.value if root is not None else None


def _shown(scope: str, rule: CacheRule) -> Output:
    shown: Output = {
        "ecrRepositoryPrefix": rule.prefix,
        "upstreamRegistryUrl": rule.url,
        "upstreamRegistry": rule.kind,
        "upstreamRepositoryPrefix": rule.upstream_prefix,
        "registryId": scope.split("/")[0],
        "createdAt": rule.created,
        "updatedAt": rule.updated,
    }
    if rule.credential:
        shown["credentialArn"] = rule.credential
    if rule.role:
        shown["customRoleArn"] = rule.role
    return shown
