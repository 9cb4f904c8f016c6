"""SNS. Topics are in ``topics.py``, subscriptions in ``subscriptions.py``, messages in ``publishing.py``; how these
reach those who are subscribed is in ``delivery.py``."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.services.api import Call, Input, Output, Tagged, tags_in
from cloudlet.services.sns import records
from cloudlet.services.sns.publishing import Publishing
from cloudlet.services.sns.records import TextMessaging
from cloudlet.services.sns.subscriptions import Subscriptions
from cloudlet.services.sns.topics import Topics

_LETTERS_AT_ONCE = 1000

_TEXTING = frozenset(  # the attributes of text messages
    (
        "DefaultSMSType",
        "DefaultSenderID",
        "DeliveryStatusIAMRole",
        "DeliveryStatusSuccessSamplingRate",
        "MonthlySpendLimit",
        "UsageReportS3Bucket",
    )
)


class Service(Publishing, Subscriptions, Topics):
    """Standard and FIFO topics."""

    async def GetSMSAttributes(self, call: Call, input: Input) -> Output:
        record = self._texting.get(call.scope, "sms")
        attributes = record.value.attributes if record is not None else {}
        wanted = input.get("attributes")
        return {"attributes": {key: value for key, value in attributes.items() if not wanted or key in wanted}}

    async def SetSMSAttributes(self, call: Call, input: Input) -> Output:
        for name, value in input["attributes"].items():
            if name not in _TEXTING:
                raise AwsError("InvalidParameterException", f"{name} is not a valid attribute")
            if name == "DefaultSMSType" and value not in ("Promotional", "Transactional"):
                raise AwsError("InvalidParameterException", f"{name} is invalid")
        record = self._texting.get(call.scope, "sms")
        attributes = {**(record.value.attributes if record is not None else {}), **input["attributes"]}
        await self._db.write(lambda tx: self._texting.put(tx, call.scope, "sms", TextMessaging(attributes)))
        return {}

    async def serve(self, request: Request, label: str) -> Response:
        """What messages link to, under ``api``: the certificate, confirming and unsubscribing; under
        ``letters/<account>/<region>``: the e-mails and text messages that were sent."""
        path = unquote(request.path).strip("/")
        params = dict(request.params())
        if label == "letters":
            after = params.get("after", "0")
            found = await self._db.scan(
                lambda tx: records.letters(tx, path, int(after) if after.isdigit() else 0, _LETTERS_AT_ONCE)
            )
            return Response(200, {"content-type": "application/json"}, msgspec.json.encode(found))
        if label != "api":
            return Response(404)
        if path:
            signer = await self._signing()
            if path != signer.name:
                return Response(404)
            return Response(200, {"content-type": "application/x-pem-file"}, signer.certificate.encode())
        try:
            return await self._follow(params)
        except AwsError as error:
            return _xml(
                "ErrorResponse", f"<Error><Code>{error.code}</Code><Message>{error.message}</Message></Error>", 400
            )

    async def _follow(self, params: dict[str, str]) -> Response:
        """Do what a link in a message asks for; whoever has the message may."""
        action = params.get("Action")
        if action == "ConfirmSubscription":
            topic = self._topic(params.get("TopicArn", ""))
            call = Call(topic.account, topic.region)
            arn = (await self.ConfirmSubscription(call, {"TopicArn": topic.arn, "Token": params.get("Token", "")}))[
                "SubscriptionArn"
            ]
            return _xml(
                "ConfirmSubscriptionResponse",
                f"<ConfirmSubscriptionResult><SubscriptionArn>{arn}</SubscriptionArn></ConfirmSubscriptionResult>",
            )
        if action == "Unsubscribe":
            subscription = self._subscription(params.get("SubscriptionArn", ""))
            if subscription.authenticated and subscription.protocol in ("http", "https", "email", "email-json"):
                return _xml(
                    "ErrorResponse",
                    "<Error><Code>AuthorizationError</Code><Message>Authentication is required</Message></Error>",
                    403,
                )
            await self._unsubscribe(subscription)
            return _xml("UnsubscribeResponse", "")
        return Response(404)

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {"type": "AWS::SNS::Topic", "name": record.name, "arn": record.value.arn}
            for record in self._topics.list(f"{account}/{region}")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(f"{account}/{region}", self._topics)


def _xml(name: str, content: str, status: int = 200) -> Response:
    body = f'<{name} xmlns="http://sns.amazonaws.com/doc/2010-03-31/">{content}</{name}>'
    return Response(status, {"content-type": "text/xml"}, body.encode())
