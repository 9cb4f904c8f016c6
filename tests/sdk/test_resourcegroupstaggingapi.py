"""The Resource Groups Tagging API through boto3, over the services whose tags it shows and changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from callers import root_of

from cloudlet.testing import LocalCloud

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
)
READING = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
)
TEMPLATE = json.dumps(
    {
        "Parameters": {"Delay": {"Type": "Number", "Default": 1}},
        "Resources": {
            "Q": {
                "Type": "AWS::SQS::Queue",
                "Properties": {"DelaySeconds": {"Ref": "Delay"}, "Tags": [{"Key": "own", "Value": "1"}]},
            }
        },
    }
)


@pytest.fixture
def tagging(cloud: LocalCloud) -> Any:
    return cloud.client("resourcegroupstaggingapi")


def found(tagging: Any, **asked: Any) -> dict[str, dict[str, str]]:
    """The resources that are found, on one page, each with its tags."""
    answer = tagging.get_resources(**asked)
    assert answer["PaginationToken"] == ""
    listed = answer["ResourceTagMappingList"]
    return {one["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in listed}


def refused(call: Any, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def queue(cloud: LocalCloud, name: str, **tags: str) -> str:
    cloud.client("sqs").create_queue(QueueName=name, tags=tags)
    return f"arn:aws:sqs:us-east-1:000000000000:{name}"


def everything(cloud: LocalCloud) -> list[str]:
    """A resource of every kind that is cheap to make, without tags; their ARNs."""
    c, trust = cloud.client, TRUST
    acct = "000000000000"
    rest = c("apigateway").create_rest_api(name="rest")["id"]
    http = c("apigatewayv2").create_api(Name="http", ProtocolType="HTTP")["ApiId"]
    c("apigatewayv2").create_stage(ApiId=http, StageName="live")
    c("apigatewayv2").create_domain_name(DomainName="http.test")
    c("apigateway").create_domain_name(domainName="rest.test")
    c("ecs").create_cluster(clusterName="tasks")
    vpc = c("ec2").create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    c("s3").create_bucket(Bucket="of-many-things")
    c("logs").create_log_group(logGroupName="/app/log")
    c("ssm").put_parameter(Name="/app/size", Value="1", Type="String")
    c("ssm").put_parameter(Name="plain", Value="1", Type="String")
    c("events").put_rule(Name="hourly", ScheduleExpression="rate(1 hour)")
    c("cloudwatch").put_metric_alarm(
        AlarmName="high:er",
        Namespace="App",
        MetricName="Errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    c("codedeploy").create_application(applicationName="app", computePlatform="Lambda")
    role = c("iam").create_role(RoleName="worker", Path="/team/", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})
    zone = c("route53").create_hosted_zone(Name="shop.test", CallerReference="1")["HostedZone"]["Id"]
    table = c("dynamodb").create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    group = c("elbv2").create_target_group(Name="web", Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip")
    return [
        queue(cloud, "jobs"),
        "arn:aws:s3:::of-many-things",
        f"arn:aws:apigateway:us-east-1::/restapis/{rest}",
        f"arn:aws:apigateway:us-east-1::/apis/{http}",
        f"arn:aws:apigateway:us-east-1::/apis/{http}/stages/live",
        "arn:aws:apigateway:us-east-1::/domainnames/http.test",
        "arn:aws:apigateway:us-east-1::/domainnames/rest.test",
        f"arn:aws:ec2:us-east-1:{acct}:vpc/{vpc}",
        f"arn:aws:ecs:us-east-1:{acct}:cluster/tasks",
        f"arn:aws:logs:us-east-1:{acct}:log-group:/app/log",
        f"arn:aws:ssm:us-east-1:{acct}:parameter/app/size",
        f"arn:aws:ssm:us-east-1:{acct}:parameter/plain",
        f"arn:aws:events:us-east-1:{acct}:rule/hourly",
        f"arn:aws:cloudwatch:us-east-1:{acct}:alarm:high:er",
        f"arn:aws:codedeploy:us-east-1:{acct}:application:app",
        f"arn:aws:route53:::{zone.strip('/')}",
        table["TableDescription"]["TableArn"],
        group["TargetGroups"][0]["TargetGroupArn"],
        c("sns").create_topic(Name="news")["TopicArn"],
        c("kms").create_key()["KeyMetadata"]["Arn"],
        c("secretsmanager").create_secret(Name="password", SecretString="x")["ARN"],
        c("ecr").create_repository(repositoryName="team/image")["repository"]["repositoryArn"],
        c("acm").request_certificate(DomainName="a.test")["CertificateArn"],
        c("acm-pca").create_certificate_authority(
            CertificateAuthorityType="ROOT",
            CertificateAuthorityConfiguration={
                "KeyAlgorithm": "EC_prime256v1",
                "SigningAlgorithm": "SHA256WITHECDSA",
                "Subject": {"CommonName": "a"},
            },
        )["CertificateAuthorityArn"],
        c("appmesh").create_mesh(meshName="shop")["mesh"]["metadata"]["arn"],
        c("scheduler").create_schedule_group(Name="nightly")["ScheduleGroupArn"],
        c("stepfunctions").create_state_machine(name="flow", definition=definition, roleArn=role)["stateMachineArn"],
        c("xray").create_group(GroupName="slow")["Group"]["GroupARN"],
        c("iam").create_policy(PolicyName="p", PolicyDocument=READING)["Policy"]["Arn"],
    ]


def test_every_service_is_told_and_asked(cloud: LocalCloud, tagging: Any) -> None:
    """Tags that come this way are the service's own, are found, go again, and survive a kill."""
    arns = everything(cloud)
    assert found(tagging) == {}
    for start in range(0, len(arns), 20):
        told = tagging.tag_resources(ResourceARNList=arns[start : start + 20], Tags={"team": "blue", "cost": "7"})
        assert told["FailedResourcesMap"] == {}
    assert found(tagging) == {arn: {"team": "blue", "cost": "7"} for arn in arns}
    assert cloud.client("sqs").list_queue_tags(QueueUrl=f"{cloud.endpoint}/000000000000/jobs")["Tags"] == {
        "team": "blue",
        "cost": "7",
    }
    cloud.kill()
    cloud.start()
    tagging = cloud.client("resourcegroupstaggingapi")
    assert found(tagging) == {arn: {"team": "blue", "cost": "7"} for arn in arns}
    for start in range(0, len(arns), 20):
        told = tagging.untag_resources(ResourceARNList=arns[start : start + 20], TagKeys=["team", "never"])
        assert told["FailedResourcesMap"] == {}
    assert found(tagging) == {arn: {"cost": "7"} for arn in arns}


def test_filters(cloud: LocalCloud, tagging: Any) -> None:
    blue = queue(cloud, "blue", team="blue", stage="live")
    red = queue(cloud, "red", team="red", stage="live")
    queue(cloud, "plain")
    topic = cloud.client("sns").create_topic(Name="t", Tags=[{"Key": "team", "Value": "blue"}])["TopicArn"]
    vpc = cloud.client("ec2").create_vpc(
        CidrBlock="10.9.0.0/16",
        TagSpecifications=[{"ResourceType": "vpc", "Tags": [{"Key": "Team", "Value": "blue"}]}],
    )["Vpc"]["VpcId"]
    vpc = f"arn:aws:ec2:us-east-1:000000000000:vpc/{vpc}"

    def having(*filters: tuple[str, list[str]], **more: Any) -> list[str]:
        return list(found(tagging, TagFilters=[{"Key": key, "Values": values} for key, values in filters], **more))

    assert having() == [vpc, topic, blue, red]
    assert having(("team", [])) == [topic, blue, red]
    assert having(("team", ["blue", "green"])) == [topic, blue]
    assert having(("team", ["blue"]), ("stage", [])) == [blue]
    assert having(("team", []), ResourceTypeFilters=["sqs", "ec2"]) == [blue, red]
    assert having(ResourceTypeFilters=["ec2:vpc", "sqs:queue"]) == [vpc, blue, red]
    assert having(ResourceTypeFilters=["ec2:subnet", "ec2:vp", "lambda"]) == []
    gone = "arn:aws:sqs:us-east-1:000000000000:gone"
    assert list(found(tagging, ResourceARNList=[red, gone, topic])) == [topic, red]

    assert tagging.get_tag_keys()["TagKeys"] == ["Team", "stage", "team"]
    assert tagging.get_tag_values(Key="team")["TagValues"] == ["blue", "red"]
    assert tagging.get_tag_values(Key="nobody's")["TagValues"] == []
    # Who has never been used has not been started by being asked.
    running = {name for name, state in cloud.control("health")["services"].items() if state == "running"}
    assert running == {"ec2", "resourcegroupstaggingapi", "sns", "sqs"}
    # Every account and region is a world of its own; what is in no region is in us-east-1.
    elsewhere = cloud.client("resourcegroupstaggingapi", region="eu-west-1")
    assert found(elsewhere) == {}
    assert "not in the account and Region" in str(elsewhere.tag_resources(ResourceARNList=[blue], Tags={"a": "b"}))


def test_pages(cloud: LocalCloud, tagging: Any) -> None:
    arns = [queue(cloud, f"q{number:02}", **{f"k{one}": "v" for one in range(30)}) for number in range(7)]
    pages = list(tagging.get_paginator("get_resources").paginate(ResourcesPerPage=3))
    listed = [[one["ResourceARN"] for one in page["ResourceTagMappingList"]] for page in pages]
    assert listed == [arns[:3], arns[3:6], arns[6:]]
    # The tags of one resource are never split: with 100 tags a page there are three queues of 30 on each.
    pages = list(tagging.get_paginator("get_resources").paginate(TagsPerPage=100))
    assert [len(page["ResourceTagMappingList"]) for page in pages] == [3, 3, 1]

    token = tagging.get_resources(ResourcesPerPage=1)["PaginationToken"]
    # What is deleted between two pages does not disturb the next.
    cloud.client("sqs").delete_queue(QueueUrl=f"{cloud.endpoint}/000000000000/q00")
    assert tagging.get_resources(PaginationToken=token)["ResourceTagMappingList"][0]["ResourceARN"] == arns[1]
    assert refused(tagging.get_resources, PaginationToken=token, ResourceTypeFilters=["sqs"])[0] == (
        "InvalidParameterException"
    )
    assert refused(tagging.get_resources, PaginationToken="nonsense")[0] == "InvalidParameterException"
    cloud.advance(901)
    assert refused(tagging.get_resources, PaginationToken=token)[0] == "PaginationTokenExpiredException"


def test_each_failure_is_its_services_own(cloud: LocalCloud, tagging: Any) -> None:
    there = queue(cloud, "there")
    gone = "arn:aws:sqs:us-east-1:000000000000:gone"
    table = "arn:aws:dynamodb:us-east-1:000000000000:table/gone"
    unknown = "arn:aws:glue:us-east-1:000000000000:job/nightly"
    failed = tagging.tag_resources(ResourceARNList=[gone, there, table, unknown], Tags={"a": "b"})["FailedResourcesMap"]
    assert {arn: (one["StatusCode"], one["ErrorCode"]) for arn, one in failed.items()} == {
        gone: (400, "QueueDoesNotExist"),
        table: (400, "ResourceNotFoundException"),
        unknown: (500, "InternalServiceException"),
    }
    assert failed[unknown]["ErrorMessage"] == "Cloudlet does not implement tags of glue:job."
    assert found(tagging) == {there: {"a": "b"}}

    # What is wrong with the request as a whole changes nothing.
    wrong = "arn:aws:ec2:us-east-1:000000000000:i-0825a83d29e870145"
    assert refused(tagging.tag_resources, ResourceARNList=[there, wrong], Tags={"c": "d"}) == (
        "InvalidParameterException",
        f"{wrong} is not a valid AmazonResourceName (ARN)",
    )
    assert refused(tagging.tag_resources, ResourceARNList=[there], Tags={"aws:c": "d"})[0] == (
        "InvalidParameterException"
    )
    assert found(tagging) == {there: {"a": "b"}}
    for wrong_ask in (
        {"ResourceARNList": [there], "TagFilters": [{"Key": "a"}]},
        {"ResourceARNList": [there], "ResourcesPerPage": 1},
        {"ResourcesPerPage": 101},
        {"TagsPerPage": 99},
        {"ExcludeCompliantResources": True},
    ):
        assert refused(tagging.get_resources, **wrong_ask)[0] == "InvalidParameterException", wrong_ask
    assert refused(tagging.get_resources, IncludeComplianceDetails=True)[0] == "NotImplemented"
    assert refused(tagging.get_compliance_summary)[0] == "NotImplemented"


def test_stacks_roles_and_groups(cloud: LocalCloud, tagging: Any) -> None:
    """A stack is tagged by an update, which tags what is in it; roles can be tagged and are not shown."""
    cloudformation, iam = cloud.client("cloudformation"), cloud.client("iam")
    stack = cloudformation.create_stack(
        StackName="app",
        TemplateBody=TEMPLATE,
        Tags=[{"Key": "team", "Value": "blue"}],
        Parameters=[{"ParameterKey": "Delay", "ParameterValue": "7"}],
    )["StackId"]
    cloudformation.get_waiter("stack_create_complete").wait(StackName="app", WaiterConfig={"Delay": 1})
    assert tagging.tag_resources(ResourceARNList=[stack], Tags={"cost": "7"})["FailedResourcesMap"] == {}
    cloudformation.get_waiter("stack_update_complete").wait(StackName="app", WaiterConfig={"Delay": 1})
    seen = found(tagging, TagFilters=[{"Key": "cost", "Values": ["7"]}])
    assert seen.pop(stack) == {"team": "blue", "cost": "7"}
    ((arn, tags),) = seen.items()
    assert (arn.split(":")[2], tags["team"], tags["aws:cloudformation:stack-name"]) == ("sqs", "blue", "app")
    url = cloud.client("sqs").get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
    attributes = cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["DelaySeconds"])["Attributes"]
    assert attributes == {"DelaySeconds": "7"}

    assert tagging.untag_resources(ResourceARNList=[stack], TagKeys=["never"])["FailedResourcesMap"] == {}

    role = iam.create_role(RoleName="worker", Path="/team/", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    assert tagging.tag_resources(ResourceARNList=[role], Tags={"cost": "7"})["FailedResourcesMap"] == {}
    assert iam.list_role_tags(RoleName="worker")["Tags"] == [{"Key": "cost", "Value": "7"}]
    assert role not in found(tagging)


def test_a_caller_needs_both_permissions() -> None:
    with LocalCloud("--auth", "enforce") as cloud:
        root = root_of(cloud)
        iam = cloud.client("iam", **root)
        cloud.client("sqs", **root).create_queue(QueueName="jobs")
        jobs = "arn:aws:sqs:us-east-1:000000000000:jobs"
        news = cloud.client("sns", **root).create_topic(Name="news")["TopicArn"]
        api = cloud.client("apigateway", **root).create_rest_api(name="rest")["id"]
        api = f"arn:aws:apigateway:us-east-1::/restapis/{api}"
        iam.create_user(UserName="tagger")
        allowed = [
            {"Effect": "Allow", "Action": ["tag:*Resources", "sqs:TagQueue"], "Resource": "*"},
            {"Effect": "Allow", "Action": "resource-groups:SearchResources", "Resource": "*"},
            {"Effect": "Allow", "Action": "apigateway:PUT", "Resource": "arn:aws:apigateway:us-east-1::/tags/*"},
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        iam.put_user_policy(UserName="tagger", PolicyName="p", PolicyDocument=policy)
        key = iam.create_access_key(UserName="tagger")["AccessKey"]
        mine = {"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}
        tagging = cloud.client("resourcegroupstaggingapi", **mine)
        failed = tagging.tag_resources(ResourceARNList=[jobs, news, api], Tags={"a": "b"})["FailedResourcesMap"]
        assert list(failed) == [news]
        assert "tagger is not authorized to perform: sns:TagResource" in failed[news]["ErrorMessage"]
        assert found(tagging) == {jobs: {"a": "b"}, api: {"a": "b"}}
        failed = tagging.untag_resources(ResourceARNList=[jobs], TagKeys=["a"])["FailedResourcesMap"]
        assert "sqs:UntagQueue" in failed[jobs]["ErrorMessage"]
        assert jobs in found(tagging)
        # Resource Groups finds what has tags only for those who may ask for tags.
        groups = cloud.client("resource-groups", **mine)
        asked = {"ResourceTypeFilters": ["AWS::AllSupported"], "TagFilters": [{"Key": "a"}]}
        query = {"Type": "TAG_FILTERS_1_0", "Query": json.dumps(asked)}
        assert len(groups.search_resources(ResourceQuery=query)["ResourceIdentifiers"]) == 2
        denied = {"Effect": "Deny", "Action": "tag:GetResources", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [*allowed, denied]})
        iam.put_user_policy(UserName="tagger", PolicyName="p", PolicyDocument=policy)
        assert "tag:GetResources" in refused(groups.search_resources, ResourceQuery=query)[1]
