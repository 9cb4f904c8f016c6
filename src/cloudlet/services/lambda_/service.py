"""Lambda. Functions are in ``functions.py``, how they run in ``running.py``, event sources in ``mappings.py``."""

from __future__ import annotations

from cloudlet.control.outbox import Outbox
from cloudlet.engines.functions import Engine
from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Tagged
from cloudlet.services.lambda_.aliases import Aliases
from cloudlet.services.lambda_.code import ARCHIVE_LABEL, Archive
from cloudlet.services.lambda_.layers import Layers
from cloudlet.services.lambda_.logs import LogWriter
from cloudlet.services.lambda_.mappings import Mappings
from cloudlet.services.lambda_.records import LATEST, MIGRATIONS
from cloudlet.services.lambda_.reloading import Folders
from cloudlet.services.lambda_.reporting import Reporting
from cloudlet.services.lambda_.urls import Urls


class Service(Layers, Aliases, Urls, Mappings, api.Service):
    """Functions in sandboxes of this machine, run by callers, by their URLs and by event sources."""

    name = "lambda"
    refused = {
        "CreateEventSourceMapping": "AmazonManagedKafkaEventSourceConfig DocumentDBEventSourceConfig Queues "
        "SelfManagedKafkaEventSourceConfig SourceAccessConfigurations StartingPositionTimestamp Topics",
        "CreateFunction": "Code.S3ObjectStorageMode!=COPY Code.SourceKMSKeyArn VpcConfig.Ipv6AllowedForDualStack",
        "Invoke": "DurableExecutionName TenantId",
        "InvokeWithResponseStream": "TenantId",
        "ListFunctions": "MasterRegion",
        "UpdateEventSourceMapping": "AmazonManagedKafkaEventSourceConfig DocumentDBEventSourceConfig "
        "SelfManagedKafkaEventSourceConfig SourceAccessConfigurations",
        "UpdateFunctionCode": "S3ObjectStorageMode!=COPY SourceKMSKeyArn",
        "UpdateFunctionConfiguration": "VpcConfig.Ipv6AllowedForDualStack",
    }

    async def start(self) -> None:
        cloud, folder = self.cloud, self.cloud.data_dir / "lambda"
        self.db = await cloud.store.database("lambda", MIGRATIONS)
        self.load()
        self.reporting = Reporting(cloud.metrics, cloud.clock)
        self.archive = Archive(folder / "code")
        self._logs = LogWriter(cloud)
        self.containers = self.open_containers()
        self.engine = Engine(
            cloud.supervisor,
            cloud.clock,
            cloud.endpoint,
            folder / "cache",
            cloud.config.isolation == "auto",
            self._logs.write,
            self.credentials,
            cloud.data_dir / "resolv.conf",
            self.containers,
        )
        await self.containers.start()
        self.resume_fetching()
        self._folders = Folders(cloud, self._folder_changed)
        self.watch_folders()
        self.outbox = Outbox(
            self.db, self.clock, self.deliver, retries=self.retries, concurrency=256, given_up=self.given_up
        )
        await self.outbox.start()
        self.start_mappings()
        self.resume_provisioned()

    async def stop(self) -> None:
        await self.stop_mappings()
        await self.outbox.stop()
        self._folders.stop()
        await self.engine.stop()
        await self._logs.flush()

    async def resource_policy(self, call: Call, input: Input) -> str | None:
        if "FunctionName" not in input:
            return None
        try:
            return self.policy_of(*self.named(call, input))
        except AwsError:
            return None

    async def serve(self, request: Request, label: str) -> Response:
        if len(label) == ARCHIVE_LABEL:
            return await self.answer_archive(label)
        return await self.answer_url(request, label)

    def watch_folders(self) -> None:
        self._folders.watch({record.value.watched for record in self.versions.all() if record.value.watched})

    def _folder_changed(self, folder: str) -> None:
        for record in self.versions.all():
            if record.value.watched == folder:
                self.forget(record.scope, *record.name.rsplit(":", 1))

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        scope = f"{account}/{region}"
        return [
            {
                "type": "AWS::Lambda::Function",
                "name": record.name,
                "arn": self.arn(scope, record.name),
                **({"endpoint": record.value.urls[""]["FunctionUrl"]} if "" in record.value.urls else {}),
            }
            for record in self.settings.list(scope)
            if self.versions.get(scope, f"{record.name}:{LATEST}") is not None
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        scope = f"{account}/{region}"
        functions = [
            (self.arn(scope, record.name), record.value.tags)
            for record in self.settings.list(scope)
            if record.value.tags and self.versions.get(scope, f"{record.name}:{LATEST}") is not None
        ]
        prefix = f"arn:aws:lambda:{region}:{account}:event-source-mapping"
        return functions + [(f"{prefix}:{record.name}", record.value.tags) for record in self.mappings.list(scope)]
