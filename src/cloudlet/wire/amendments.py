"""What AWS's services do and botocore's models do not say, as data: the only place where the wire names a service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cloudlet.wire.model import Model, parse


@dataclass(frozen=True, slots=True)
class Amendment:
    """Additions to one service's model."""

    namespace: str = ""  # of XML answers
    bare_errors: bool = False  # rest-xml errors without <ErrorResponse>
    addressed: str = ""  # the member that a query's own path stands for
    names_missing: bool = False  # a missing parameter is a MissingParameter, not a validation error
    missing: dict[str, str] = field(default_factory=dict)  # operation.parameter -> its name when it is missing
    constraints: bool = True  # False: the service judges lengths, patterns and enums by itself
    refusal: str = ""  # the code of a broken constraint, where it is not one that the operation declares
    words: str = ""  # for the first broken constraint, with {path} and {constraint}, where it is not the usual sentence
    enums: dict[str, list[str]] = field(default_factory=dict)  # enum shape -> its values in the order of such words
    hidden: tuple[str, ...] = ()  # shapes whose value a refusal does not repeat
    codes: dict[str, str] = field(default_factory=dict)  # exception shape -> code that query clients know
    kinds: dict[str, str] = field(default_factory=dict)  # code that the model has not -> what JSON clients call it
    statuses: dict[str, int] = field(default_factory=dict)  # exception shape or code -> status
    lists: dict[str, str] = field(default_factory=dict)  # list shape -> element, in queries
    maps: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # map shape -> entry, key, value, in queries
    roots: dict[str, str] = field(default_factory=dict)  # operation -> root element of its XML answer
    answers: dict[str, int] = field(default_factory=dict)  # operation -> the status of its answer
    unwrapped: dict[str, str] = field(default_factory=dict)  # operation -> member whose text is the root's
    additions: dict[str, Any] = field(default_factory=dict)  # operations and shapes that the model has not

    def amend(self, model: Model) -> None:
        """Give a model what it lacks."""
        if self.additions:
            added = parse({"metadata": {"protocol": model.metadata.protocol}, **self.additions})
            model.operations.update(added.operations)
            model.shapes.update(added.shapes)
        for name, values in self.enums.items():
            model.shapes[name].enum = values
        for name in self.hidden:
            model.shapes[name].sensitive = True
        for name, status in self.answers.items():
            model.operations[name].http.response_code = status
        for name, element in self.lists.items():
            if (shape := model.shapes.get(name)) is not None and shape.member is not None:
                shape.member.location_name = shape.member.location_name or element
        for name, (entry, key, value) in self.maps.items():
            shape = model.shapes.get(name)
            if shape is None or shape.key is None or shape.value is None:
                continue
            shape.key.location_name = shape.key.location_name or key
            shape.value.location_name = shape.value.location_name or value
            for holder in model.shapes.values():
                for ref in holder.members.values():
                    if ref.shape == name:
                        ref.location_name = ref.location_name or entry


_SQS = Amendment(
    addressed="QueueUrl",
    names_missing=True,
    constraints=False,
    namespace="http://queue.amazonaws.com/doc/2012-11-05/",
    codes={
        "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
        "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
        "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
        "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
        "KmsAccessDenied": "KMS.AccessDeniedException",
        "KmsDisabled": "KMS.DisabledException",
        "KmsInvalidKeyUsage": "KMS.InvalidKeyUsageException",
        "KmsInvalidState": "KMS.InvalidStateException",
        "KmsNotFound": "KMS.NotFoundException",
        "KmsOptInRequired": "KMS.OptInRequired",
        "KmsThrottled": "KMS.ThrottlingException",
        "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
        "PurgeQueueInProgress": "AWS.SimpleQueueService.PurgeQueueInProgress",
        "QueueDeletedRecently": "AWS.SimpleQueueService.QueueDeletedRecently",
        "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
        "QueueNameExists": "QueueAlreadyExists",
        "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation",
    },
    kinds={
        "InvalidParameterValue": "InvalidParameterValueException",
        "MissingParameter": "MissingRequiredParameterException",
    },
    lists={
        "AWSAccountIdList": "AWSAccountId",
        "ActionNameList": "ActionName",
        "AttributeNameList": "AttributeName",
        "BatchResultErrorEntryList": "BatchResultErrorEntry",
        "BinaryList": "BinaryListValue",
        "ChangeMessageVisibilityBatchRequestEntryList": "ChangeMessageVisibilityBatchRequestEntry",
        "ChangeMessageVisibilityBatchResultEntryList": "ChangeMessageVisibilityBatchResultEntry",
        "DeleteMessageBatchRequestEntryList": "DeleteMessageBatchRequestEntry",
        "DeleteMessageBatchResultEntryList": "DeleteMessageBatchResultEntry",
        "ListMessageMoveTasksResultEntryList": "ListMessageMoveTasksResultEntry",
        "MessageAttributeNameList": "MessageAttributeName",
        "MessageList": "Message",
        "MessageSystemAttributeList": "AttributeName",
        "QueueUrlList": "QueueUrl",
        "SendMessageBatchRequestEntryList": "SendMessageBatchRequestEntry",
        "SendMessageBatchResultEntryList": "SendMessageBatchResultEntry",
        "StringList": "StringListValue",
        "TagKeyList": "TagKey",
    },
    maps={
        "MessageBodyAttributeMap": ("MessageAttribute", "Name", "Value"),
        "MessageBodySystemAttributeMap": ("MessageSystemAttribute", "Name", "Value"),
        "MessageSystemAttributeMap": ("Attribute", "Name", "Value"),
        "QueueAttributeMap": ("Attribute", "Name", "Value"),
        "TagMap": ("Tag", "Key", "Value"),
    },
)

# What S3 answers where its model has no shape for the error, or no status.
_S3_STATUSES = {
    **dict.fromkeys(
        (
            "NoSuchBucket",
            "NoSuchBucketPolicy",
            "NoSuchConfiguration",
            "NoSuchCORSConfiguration",
            "NoSuchKey",
            "NoSuchLifecycleConfiguration",
            "NoSuchObjectLockConfiguration",
            "NoSuchPublicAccessBlockConfiguration",
            "NoSuchTagSet",
            "NoSuchUpload",
            "NoSuchVersion",
            "NoSuchWebsiteConfiguration",
            "NotFound",
            "ObjectLockConfigurationNotFoundError",
            "OwnershipControlsNotFoundError",
            "ReplicationConfigurationNotFoundError",
            "ServerSideEncryptionConfigurationNotFoundError",
        ),
        404,
    ),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AllAccessDisabled",
            "InvalidAccessKeyId",
            "InvalidObjectState",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
        ),
        403,
    ),
    **dict.fromkeys(
        (
            "BucketAlreadyExists",
            "BucketAlreadyOwnedByYou",
            "BucketNotEmpty",
            "ConditionalRequestConflict",
            "InvalidBucketState",
            "OperationAborted",
        ),
        409,
    ),
    "InternalError": 500,
    "InvalidRange": 416,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NotImplemented": 501,
    "NotModified": 304,
    "PreconditionFailed": 412,
    "SlowDown": 503,
}

# A browser's upload with a form, which no SDK calls: its answer is 204, 201 with a document, or a redirect. And the
# answer about a restore, which says by its status whether the object is restored already.
_S3_ADDITIONS = {
    "operations": {
        "PostObject": {
            "name": "PostObject",
            "http": {"method": "POST", "requestUri": "/{Bucket}"},
            "input": {"shape": "PostObjectRequest"},
            "output": {"shape": "PostObjectOutput"},
        }
    },
    "shapes": {
        "PostObjectRequest": {
            "type": "structure",
            "required": ["Bucket"],
            "payload": "Body",
            "members": {
                "Bucket": {"shape": "BucketName", "location": "uri", "locationName": "Bucket"},
                "ContentType": {"shape": "ContentType", "location": "header", "locationName": "Content-Type"},
                "ContentLength": {"shape": "ContentLength", "location": "header", "locationName": "Content-Length"},
                "Body": {"shape": "Body", "streaming": True},
            },
        },
        "PostObjectOutput": {
            "type": "structure",
            "payload": "Body",
            "members": {
                "StatusCode": {"shape": "PostObjectStatus", "location": "statusCode"},
                "Location": {"shape": "Location", "location": "header", "locationName": "Location"},
                "ETag": {"shape": "ETag", "location": "header", "locationName": "ETag"},
                "VersionId": {"shape": "ObjectVersionId", "location": "header", "locationName": "x-amz-version-id"},
                "ContentType": {"shape": "ContentType", "location": "header", "locationName": "Content-Type"},
                "Body": {"shape": "Body"},
            },
        },
        "PostObjectStatus": {"type": "integer"},
        "RestoreObjectOutput": {
            "type": "structure",
            "members": {
                "StatusCode": {"shape": "PostObjectStatus", "location": "statusCode"},
                "RequestCharged": {
                    "shape": "RequestCharged",
                    "location": "header",
                    "locationName": "x-amz-request-charged",
                },
                "RestoreOutputPath": {
                    "shape": "RestoreOutputPath",
                    "location": "header",
                    "locationName": "x-amz-restore-output-path",
                },
            },
        },
    },
}

_S3 = Amendment(
    constraints=False,
    statuses=_S3_STATUSES,
    additions=_S3_ADDITIONS,
    namespace="http://s3.amazonaws.com/doc/2006-03-01/",
    bare_errors=True,
    answers={"PutBucketPolicy": 204, "PutBucketTagging": 204},
    unwrapped={"GetBucketLocation": "LocationConstraint"},
    roots={
        "CompleteMultipartUpload": "CompleteMultipartUploadResult",
        "CreateMultipartUpload": "InitiateMultipartUploadResult",
        "DeleteObjects": "DeleteResult",
        "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
        "GetBucketAcl": "AccessControlPolicy",
        "GetBucketCors": "CORSConfiguration",
        "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
        "GetBucketLogging": "BucketLoggingStatus",
        "GetBucketNotificationConfiguration": "NotificationConfiguration",
        "GetBucketRequestPayment": "RequestPaymentConfiguration",
        "GetBucketTagging": "Tagging",
        "GetBucketVersioning": "VersioningConfiguration",
        "GetBucketWebsite": "WebsiteConfiguration",
        "GetObjectAcl": "AccessControlPolicy",
        "GetObjectAttributes": "GetObjectAttributesResponse",
        "GetObjectTagging": "Tagging",
        "ListBuckets": "ListAllMyBucketsResult",
        "ListMultipartUploads": "ListMultipartUploadsResult",
        "ListObjectVersions": "ListVersionsResult",
        "ListObjects": "ListBucketResult",
        "ListObjectsV2": "ListBucketResult",
        "ListParts": "ListPartsResult",
    },
)

AMENDMENTS: dict[str, Amendment] = {"sqs": _SQS, "s3": _S3, "rds": Amendment(names_missing=True)}
AMENDMENTS["ecr"] = Amendment(
    words="Invalid parameter at '{path}' failed to satisfy constraint: '{constraint}'",
    enums={"ImageTagMutability": ["IMMUTABLE", "MUTABLE", "MUTABLE_WITH_EXCLUSION", "IMMUTABLE_WITH_EXCLUSION"]},
)
AMENDMENTS["dynamodb"] = Amendment(
    enums={"Select": ["SPECIFIC_ATTRIBUTES", "COUNT", "ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES"]}
)
AMENDMENTS["application-autoscaling"] = Amendment(
    enums={"PolicyType": ["PredictiveScaling", "StepScaling", "TargetTrackingScaling"]}
)
AMENDMENTS["ec2"] = Amendment(
    missing={"CreateTags.Resources": "resourceIdSet", "DeleteTags.Resources": "resourceIdSet"}
)
AMENDMENTS["logs"] = Amendment(hidden=("LogGroupIdentifier",))
AMENDMENTS["acm"] = Amendment(refusal="ValidationException")  # also where an operation declares only others
AMENDMENTS["apigateway"] = Amendment(refusal="ValidationException")
# The service judges it: it takes "http" as well.
AMENDMENTS["ecs"] = Amendment(additions={"operations": {}, "shapes": {"TransportProtocol": {"type": "string"}}})
NONE = Amendment()
