"""URLs of AWS's data planes lead to this cloud."""

from __future__ import annotations

import pytest

from cloudlet.stacks.doors import local


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://a1b2.execute-api.us-east-1.amazonaws.com/Prod/x", "http://here/execute-api/a1b2/Prod/x"),
        ("wss://a1b2.execute-api.eu-west-1.amazonaws.com/dev", "ws://here/execute-api/a1b2/dev"),
        ("curl https://a1.execute-api.us-east-1.amazonaws.com:443?x=1", "curl http://here/execute-api/a1?x=1"),
        ("https://abc.lambda-url.us-east-1.on.aws/", "http://here/lambda-url/abc/"),
        ("http://my.site.s3-website-us-east-1.amazonaws.com", "http://here/s3-website/my.site"),
        ("http://site.s3-website.eu-central-1.amazonaws.com/a", "http://here/s3-website/site/a"),
        *(
            (text, text)
            for text in (
                "a1.execute-api.us-east-1.amazonaws.com",
                "https://a1.execute-api.us-east-1.amazonaws.com.evil.org/",
                "https://a1.execute-api.us-east-1.amazonaws.com:8443/",
                "https://bucket.s3.us-east-1.amazonaws.com/key",
                "arn:aws:execute-api:us-east-1:000000000000:a1/*",
            )
        ),
    ],
)
def test_a_url_leads_to_its_front_door(text: str, wanted: str) -> None:
    assert local(text, lambda name, label: f"http://here/{name}/{label}") == wanted
