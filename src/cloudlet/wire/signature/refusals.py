"""Why a signature is refused, in the words of the service that was asked: each protocol has its own codes."""

from __future__ import annotations

from cloudlet.errors import AwsError

# Signing names whose canonical request and error codes are S3's.
S3_NAMES = frozenset(("s3", "s3express", "s3-object-lambda", "s3-outposts"))
# Services whose errors carry the codes of the query protocol; all others have those of JSON.
_QUERY = frozenset(
    (
        "autoscaling",
        "cloudformation",
        "cloudfront",
        "cloudsearch",
        "cloudwatch",
        "docdb",
        "elasticache",
        "elasticbeanstalk",
        "elb",
        "elbv2",
        "elasticloadbalancing",
        "iam",
        "importexport",
        "monitoring",
        "neptune",
        "rds",
        "redshift",
        "route53",
        "sdb",
        "ses",
        "email",
        "sns",
        "sqs",
        "sts",
    )
)

_NOT_MATCHING = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)
_INVALID_TOKEN = "The security token included in the request is invalid."
_EXPIRED_TOKEN = "The security token included in the request is expired"

# Reason -> code, status and words for S3, for query services, for EC2 and for JSON services.
_WORDS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "mismatch": (
        (
            "SignatureDoesNotMatch",
            403,
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        ),
        ("SignatureDoesNotMatch", 403, _NOT_MATCHING),
        ("AuthFailure", 401, "AWS was not able to validate the provided access credentials"),
        ("InvalidSignatureException", 403, _NOT_MATCHING),
    ),
    "unknown": (
        ("InvalidAccessKeyId", 403, "The AWS Access Key Id you provided does not exist in our records."),
        ("InvalidClientTokenId", 403, _INVALID_TOKEN),
        ("AuthFailure", 401, "AWS was not able to validate the provided access credentials"),
        ("UnrecognizedClientException", 403, _INVALID_TOKEN),
    ),
    "token": (
        ("InvalidToken", 400, "The provided token is malformed or otherwise invalid."),
        ("InvalidClientTokenId", 403, _INVALID_TOKEN),
        ("AuthFailure", 401, "AWS was not able to validate the provided access credentials"),
        ("UnrecognizedClientException", 403, _INVALID_TOKEN),
    ),
    "expired": (
        ("ExpiredToken", 400, "The provided token has expired."),
        ("ExpiredToken", 403, _EXPIRED_TOKEN),
        ("RequestExpired", 400, "Request has expired."),
        ("ExpiredTokenException", 403, _EXPIRED_TOKEN),
    ),
    "skew": (
        ("RequestTimeTooSkewed", 403, "The difference between the request time and the current time is too large."),
        ("SignatureDoesNotMatch", 403, ""),
        ("RequestExpired", 400, "Request has expired."),
        ("InvalidSignatureException", 403, ""),
    ),
    "date": (
        ("AccessDenied", 403, "AWS authentication requires a valid Date or x-amz-date header"),
        ("IncompleteSignature", 400, ""),
        ("IncompleteSignature", 400, ""),
        ("IncompleteSignatureException", 400, ""),
    ),
    "incomplete": (
        ("AuthorizationHeaderMalformed", 400, ""),
        ("IncompleteSignature", 400, ""),
        ("IncompleteSignature", 400, ""),
        ("IncompleteSignatureException", 400, ""),
    ),
    "scope": (
        ("AuthorizationHeaderMalformed", 400, ""),
        ("SignatureDoesNotMatch", 403, ""),
        ("AuthFailure", 401, ""),
        ("InvalidSignatureException", 403, ""),
    ),
}


def refuse(service: str, reason: str, detail: str = "", **members: str) -> AwsError:
    """The error for a reason as a service words it; ``detail`` stands where AWS has no fixed text."""
    style = 0 if service in S3_NAMES else 1 if service in _QUERY else 2 if service == "ec2" else 3
    code, status, message = _WORDS[reason][style]
    return AwsError(code, message or detail, status=status, **members)


def unknown_key(access_key: str, service: str) -> AwsError:
    """The error for an access key that nobody has."""
    members = {"AWSAccessKeyId": access_key} if service in S3_NAMES else {}
    return refuse(service, "unknown", **members)
