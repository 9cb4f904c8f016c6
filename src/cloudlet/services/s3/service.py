"""S3. Buckets are in ``buckets.py``, their settings in ``configurations.py``, objects in ``writing.py`` and so on."""

from __future__ import annotations

from cloudlet.services.s3.acls import Acls
from cloudlet.services.s3.configurations import Configurations
from cloudlet.services.s3.deleting import Deleting
from cloudlet.services.s3.forms import Forms
from cloudlet.services.s3.lifecycle import Lifecycle
from cloudlet.services.s3.listing import Listing
from cloudlet.services.s3.multipart import Multipart
from cloudlet.services.s3.reporting import reported
from cloudlet.services.s3.restoring import Restoring
from cloudlet.services.s3.retention import ObjectLocks
from cloudlet.services.s3.tagging import ObjectTags
from cloudlet.services.s3.website import Websites


class Service(
    Websites, Forms, Lifecycle, Restoring, Multipart, Deleting, Listing, ObjectTags, ObjectLocks, Acls, Configurations
):
    """Buckets and objects: small ones lie in the database, large ones in files beside it."""

    refused = {
        "AbortMultipartUpload": "IfMatchInitiatedTime",
        "CopyObject": "AnnotationDirective SSEKMSEncryptionContext",
        "CreateBucket": "CreateBucketConfiguration.Bucket CreateBucketConfiguration.Location",
        "CreateMultipartUpload": "SSEKMSEncryptionContext",
        "PutBucketEncryption": "ServerSideEncryptionConfiguration.Rules.BlockedEncryptionTypes",
        "PutObject": "SSEKMSEncryptionContext",
        "PutObjectLockConfiguration": "ObjectLockConfiguration.Rule.DefaultRetention.DefaultEventHold",
        "PutObjectRetention": "Retention.EventHold Retention.EventHoldDuration",
    }

    async def start(self) -> None:
        await super().start()
        await self.start_lifecycle()
        self.daily.arm()

    async def stop(self) -> None:
        self.daily.stop()
        self.stop_lifecycle()
        await self.outbox.stop()


for _operation in [name for name in dir(Service) if name[0].isupper()]:
    setattr(Service, _operation, reported(getattr(Service, _operation)))
