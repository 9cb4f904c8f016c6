"""The records of flow logs."""

from __future__ import annotations

import pytest

from cloudlet.errors import AwsError
from cloudlet.services.ec2 import flow_counting, flow_records
from cloudlet.services.ec2.flow_counting import Flow

FLOW = Flow("10.0.0.1", "10.0.0.2", 6, 40000, 80, False, True, 3, 4, 300)
KNOWN = {"account-id": "123456789012", "interface-id": "eni-1", "vpc-id": "vpc-1"}


def test_the_default_format_is_version_2() -> None:
    text = flow_records.line(flow_records.DEFAULT, KNOWN, 100, 160, "OK", FLOW)
    assert text == "2 123456789012 eni-1 10.0.0.1 10.0.0.2 40000 80 6 4 300 100 160 ACCEPT OK"
    silence = flow_records.line(flow_records.DEFAULT, KNOWN, 100, 160, "NODATA")
    assert silence == "2 123456789012 eni-1 - - - - - - - 100 160 - NODATA"


def test_a_format_has_the_version_of_its_newest_field_and_dashes_for_what_is_not_known() -> None:
    format = "${version} ${vpc-id} ${tcp-flags} ${flow-direction} ${reject-reason} ${instance-id}"
    assert flow_records.line(format, KNOWN, 100, 160, "OK", FLOW) == "8 vpc-1 3 ingress - -"
    for wrong in ("", "${colour}", "version", "${version},${start}", "${version} "):
        with pytest.raises(AwsError, match="has an invalid format"):
            flow_records.fields(wrong)


def test_the_sets_of_a_window_become_flows() -> None:
    def elem(*key: object, packets: int = 1, bytes: int = 60) -> dict[str, object]:
        return {"elem": {"val": {"concat": list(key)}, "counter": {"packets": packets, "bytes": bytes}}}

    tcp = [
        elem("10.0.0.1", "10.0.0.2", 40000, 80, 2),  # SYN
        elem("10.0.0.1", "10.0.0.2", 40000, 80, 1, packets=2, bytes=110),  # FIN
        elem("10.0.0.1", "10.0.0.2", 40000, 80, 128 | 2),  # dropped
    ]
    others = [elem("10.0.0.2", "10.0.0.1", "icmp", 64)]
    listed = {
        "nftables": [
            {"set": {"name": f"w100_{kind}", "elem": held}}
            for kind, held in (("tcp", tcp), ("udp", []), ("others", others))
        ]
    }
    (window,) = flow_counting.windows(listed)
    assert (window.start, window.is_full) == (100, False)
    assert window.flows == [
        Flow("10.0.0.1", "10.0.0.2", 6, 40000, 80, False, True, 3, 3, 170),
        Flow("10.0.0.1", "10.0.0.2", 6, 40000, 80, False, False, 2, 1, 60),
        Flow("10.0.0.2", "10.0.0.1", 1, 0, 0, True, True, 0, 1, 60),
    ]
