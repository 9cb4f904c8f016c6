"""CodeDeploy: an alias led from one version to the next, by steps, hooks, alarms and stacks; kills between."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from callers import root_of
from refusals import refused

from cloudlet.testing import LocalCloud, eventually

ROLE = "arn:aws:iam::000000000000:role/any"
VALUES = {"DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST"}
ROLLBACK = {"enabled": True, "events": sorted(VALUES)}
BLUE_GREEN = {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"}
HOOK = """
import boto3
def handler(event, context):
    print(sorted(event))
    boto3.client("codedeploy").put_lifecycle_event_hook_execution_status(
        deploymentId=event["DeploymentId"],
        lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status="%s",
    )
"""
SILENT = "def handler(event, context):\n    pass\n"


def zipped(text: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("index.py", text)
    return held.getvalue()


def answers(version: int) -> bytes:
    return zipped(f"def handler(event, context):\n    return {version}\n")


class Fn:
    """A function with an alias, an application and a group that deploys it."""

    def __init__(self, cloud: LocalCloud, config: str = "CodeDeployDefault.LambdaCanary10Percent5Minutes") -> None:
        self.lambda_, self.deploy = cloud.client("lambda"), cloud.client("codedeploy")
        self.make("fn", answers(1), True)
        self.lambda_.create_alias(FunctionName="fn", Name="live", FunctionVersion="1")
        for name, status in (("good", "Succeeded"), ("bad", "Failed")):
            self.make(name, zipped(HOOK % status))
        self.make("silent", zipped(SILENT))
        self.deploy.create_application(applicationName="app", computePlatform="Lambda")
        self.deploy.create_deployment_group(
            applicationName="app",
            deploymentGroupName="group",
            serviceRoleArn=ROLE,
            deploymentConfigName=config,
            autoRollbackConfiguration=ROLLBACK,
            deploymentStyle=BLUE_GREEN,
        )

    def make(self, name: str, code: bytes, publish: bool = False) -> None:
        self.lambda_.create_function(
            FunctionName=name,
            Runtime="python3.11",
            Role=ROLE,
            Handler="index.handler",
            Code={"ZipFile": code},
            Timeout=30,
            Publish=publish,
        )

    def publish(self, version: int) -> None:
        self.lambda_.update_function_code(FunctionName="fn", ZipFile=answers(version), Publish=True)

    def create(self, old: int, new: int, hooks: str = "[]", **more: Any) -> str:
        text = f"""
version: 0.0
Resources:
  - fn:
      Type: AWS::Lambda::Function
      Properties: {{Name: fn, Alias: live, CurrentVersion: {old}, TargetVersion: {new}}}
Hooks: {hooks}
"""
        revision = {"revisionType": "AppSpecContent", "appSpecContent": {"content": text}}
        made = self.deploy.create_deployment(
            applicationName="app", deploymentGroupName="group", revision=revision, **more
        )
        id: str = made["deploymentId"]
        return id

    def alias(self) -> tuple[str, dict[str, float]]:
        found = self.lambda_.get_alias(FunctionName="fn", Name="live")
        return found["FunctionVersion"], (found.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {})

    def comes_to(self, version: str, weights: dict[str, float]) -> None:
        eventually(lambda: self.alias() == (version, weights))

    def info(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.deploy.get_deployment(deploymentId=id)["deploymentInfo"]
        return found

    def ends(self, id: str, status: str) -> dict[str, Any]:
        eventually(lambda: self.info(id)["status"] in ("Succeeded", "Failed", "Stopped"))
        assert self.info(id)["status"] == status, self.info(id)
        return self.info(id)

    def events(self, id: str) -> dict[str, str]:
        target = self.deploy.get_deployment_target(deploymentId=id, targetId="fn:live")["deploymentTarget"]
        return {one["lifecycleEventName"]: one["status"] for one in target["lambdaTarget"]["lifecycleEvents"]}


@pytest.fixture
def fn(cloud: LocalCloud) -> Fn:
    return Fn(cloud)


def test_a_canary_gets_its_tenth_and_then_everything_whatever_is_killed_meanwhile(cloud: LocalCloud, fn: Fn) -> None:
    events, queues = cloud.client("events"), cloud.client("sqs")
    url = queues.create_queue(QueueName="told")["QueueUrl"]
    events.put_rule(Name="told", EventPattern=json.dumps({"source": ["aws.codedeploy"]}))
    events.put_targets(Rule="told", Targets=[{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:000000000000:told"}])
    fn.publish(2)
    id = fn.create(1, 2, "[{BeforeAllowTraffic: good}, {AfterAllowTraffic: good}]", description="to two")
    fn.comes_to("1", {"2": 0.1})
    assert refused(fn.create, old=1, new=2) == (
        "DeploymentLimitExceededException",
        f"The Deployment Group 'group' already has an active Deployment '{id}'",
    )
    cloud.kill()
    cloud.start()
    assert fn.info(id)["status"] == "InProgress"
    assert fn.events(id) == {
        "BeforeAllowTraffic": "Succeeded",
        "AllowTraffic": "InProgress",
        "AfterAllowTraffic": "Pending",
    }
    cloud.advance(290)
    assert fn.alias() == ("1", {"2": 0.1})
    cloud.advance(15)
    info = fn.ends(id, "Succeeded")
    assert fn.alias() == ("2", {})
    assert (info["creator"], info["description"], info["computePlatform"]) == ("user", "to two", "Lambda")
    assert set(fn.events(id).values()) == {"Succeeded"}
    assert fn.lambda_.invoke(FunctionName="fn:live")["Payload"].read() == b"2"
    fn.deploy.get_waiter("deployment_successful").wait(deploymentId=id)

    group = fn.deploy.get_deployment_group(applicationName="app", deploymentGroupName="group")["deploymentGroupInfo"]
    assert group["lastSuccessfulDeployment"]["deploymentId"] == id
    assert group["targetRevision"]["appSpecContent"]["sha256"]
    assert fn.deploy.list_deployments(applicationName="app", deploymentGroupName="group")["deployments"] == [id]
    states: list[str] = []

    def told() -> bool:
        found = queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
        for one in found:
            states.append(json.loads(one["Body"])["detail"]["state"])
            queues.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
        return set(states) == {"START", "SUCCESS"}

    eventually(told)


def test_a_linear_shift_goes_in_equal_steps(cloud: LocalCloud, fn: Fn) -> None:
    fn.publish(2)
    thirds = {"type": "TimeBasedLinear", "timeBasedLinear": {"linearPercentage": 40, "linearInterval": 2}}
    fn.deploy.create_deployment_config(
        deploymentConfigName="thirds", computePlatform="Lambda", trafficRoutingConfig=thirds
    )
    id = fn.create(1, 2, deploymentConfigName="thirds")
    for share in (0.4, 0.8):
        fn.comes_to("1", {"2": share})
        cloud.advance(121)
    fn.ends(id, "Succeeded")
    assert fn.alias() == ("2", {})


def test_an_alarm_a_function_and_a_user_turn_it_back(cloud: LocalCloud, fn: Fn) -> None:
    cloudwatch, sns, sqs = cloud.client("cloudwatch"), cloud.client("sns"), cloud.client("sqs")
    alarm = {"EvaluationPeriods": 1, "Period": 60, "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold"}
    cloudwatch.put_metric_alarm(AlarmName="errors", MetricName="e", Namespace="n", Statistic="Sum", **alarm)
    topic = sns.create_topic(Name="told")["TopicArn"]
    url = sqs.create_queue(QueueName="told")["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:000000000000:told")
    trigger = {"triggerName": "told", "triggerTargetArn": topic, "triggerEvents": ["DeploymentStop"]}
    fn.deploy.update_deployment_group(
        applicationName="app",
        currentDeploymentGroupName="group",
        alarmConfiguration={"enabled": True, "alarms": [{"name": "errors"}]},
        triggerConfigurations=[trigger],
    )
    fn.publish(2)

    id = fn.create(1, 2)
    fn.comes_to("1", {"2": 0.1})
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    stopped = fn.ends(id, "Stopped")
    assert stopped["errorInformation"]["code"] == "ALARM_ACTIVE"
    assert stopped["errorInformation"]["message"].endswith("Activated alarms: <errors>")
    back = stopped["rollbackInfo"]["rollbackDeploymentId"]
    undone = fn.ends(back, "Succeeded")
    assert (undone["creator"], undone["rollbackInfo"]["rollbackTriggeringDeploymentId"]) == ("codeDeployRollback", id)
    assert fn.alias() == ("1", {})
    assert fn.events(id) == {
        "BeforeAllowTraffic": "Succeeded",
        "AllowTraffic": "Failed",
        "AfterAllowTraffic": "Skipped",
    }
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    envelope = json.loads(message["Body"])
    assert envelope["Subject"] == f"STOPPED: AWS CodeDeploy {id} in us-east-1 to app"
    assert json.loads(envelope["Message"])["deploymentGroupName"] == "group"

    # One that is on already lets none begin.
    assert fn.ends(fn.create(1, 2), "Stopped")["errorInformation"]["code"] == "ALARM_ACTIVE"
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="OK", StateReason="a test")
    eventually(lambda: not fn.deploy.list_deployments(includeOnlyStatuses=["Created", "InProgress"])["deployments"])

    bad = fn.create(1, 2, "[{AfterAllowTraffic: bad}]", deploymentConfigName="CodeDeployDefault.LambdaAllAtOnce")
    failed = fn.ends(bad, "Failed")
    assert failed["errorInformation"] == {
        "code": "HOOK_EXECUTION_FAILURE",
        "message": "The deployment failed because one or more of the lifecycle event validation functions failed.",
    }
    fn.ends(failed["rollbackInfo"]["rollbackDeploymentId"], "Succeeded")
    assert fn.alias() == ("1", {})

    silent = fn.create(1, 2, "[{BeforeAllowTraffic: silent}]")
    eventually(lambda: fn.info(silent)["status"] == "InProgress")
    cloud.kill()
    cloud.start()
    eventually(lambda: fn.events(silent)["BeforeAllowTraffic"] == "InProgress")
    cloud.advance(3601)
    assert fn.ends(silent, "Failed")["errorInformation"]["code"] == "TIMEOUT"
    eventually(lambda: not fn.deploy.list_deployments(includeOnlyStatuses=["Created", "InProgress"])["deployments"])

    id = fn.create(1, 2)
    fn.comes_to("1", {"2": 0.1})
    assert fn.deploy.stop_deployment(deploymentId=id)["status"] == "Succeeded"
    fn.ends(fn.ends(id, "Stopped")["rollbackInfo"]["rollbackDeploymentId"], "Succeeded")
    assert fn.alias() == ("1", {})
    assert refused(fn.deploy.stop_deployment, deploymentId=id)[0] == "DeploymentAlreadyCompletedException"


def test_what_users_get_wrong_is_said_in_awss_words(cloud: LocalCloud, fn: Fn) -> None:
    deploy = fn.deploy
    assert refused(deploy.get_application, applicationName="no") == (
        "ApplicationDoesNotExistException",
        "No application found for name: no",
    )
    assert refused(deploy.get_deployment_group, applicationName="app", deploymentGroupName="no") == (
        "DeploymentGroupDoesNotExistException",
        "No Deployment Group found for name: no",
    )
    assert refused(deploy.get_deployment, deploymentId="d-NONE")[0] == "DeploymentDoesNotExistException"
    assert refused(deploy.create_application, applicationName="app")[0] == "ApplicationAlreadyExistsException"
    config = {"deploymentConfigName": "odd", "computePlatform": "Lambda"}
    canary = {"type": "TimeBasedCanary", "timeBasedCanary": {"canaryPercentage": 0, "canaryInterval": 1}}
    code, _ = refused(deploy.create_deployment_config, trafficRoutingConfig=canary, **config)
    assert code == "InvalidTrafficRoutingConfigurationException"
    code, _ = refused(deploy.delete_deployment_config, deploymentConfigName="CodeDeployDefault.LambdaAllAtOnce")
    assert code == "InvalidOperationException"
    code, _ = refused(fn.create, old=1, new=2, hooks="[{AfterInstall: good}]")
    assert code == "InvalidRevisionException"
    failed = fn.ends(fn.create(7, 8), "Failed")
    assert failed["errorInformation"]["code"] == "INVALID_LAMBDA_CONFIGURATION"
    assert "rollbackInfo" not in failed
    deploy.create_application(applicationName="servers")
    deploy.create_deployment_group(applicationName="servers", deploymentGroupName="g", serviceRoleArn=ROLE)
    revision = {"revisionType": "S3", "s3Location": {"bucket": "b", "key": "k", "bundleType": "zip"}}
    code, words = refused(
        deploy.create_deployment, applicationName="servers", deploymentGroupName="g", revision=revision
    )
    assert code == "NotImplemented"
    assert "agent" in words


def test_a_revision_in_s3_is_read_there(cloud: LocalCloud, fn: Fn) -> None:
    fn.publish(2)
    properties = {"Name": "fn", "Alias": "live", "CurrentVersion": "1", "TargetVersion": "2"}
    text = {"version": 0.0, "Resources": [{"fn": {"Type": "AWS::Lambda::Function", "Properties": properties}}]}
    cloud.client("s3").create_bucket(Bucket="specs")
    cloud.client("s3").put_object(Bucket="specs", Key="a.json", Body=json.dumps(text))
    revision = {"revisionType": "S3", "s3Location": {"bucket": "specs", "key": "a.json", "bundleType": "JSON"}}
    made = fn.deploy.create_deployment(
        applicationName="app",
        deploymentGroupName="group",
        deploymentConfigName="CodeDeployDefault.LambdaAllAtOnce",
        revision=revision,
    )
    fn.ends(made["deploymentId"], "Succeeded")
    assert fn.alias() == ("2", {})
    assert fn.deploy.list_application_revisions(applicationName="app")["revisions"] == [revision]
    missing = {**revision, "s3Location": {**revision["s3Location"], "key": "b.json"}}  # type: ignore[dict-item]
    made = fn.deploy.create_deployment(applicationName="app", deploymentGroupName="group", revision=missing)
    assert fn.ends(made["deploymentId"], "Failed")["errorInformation"]["code"] == "REVISION_MISSING"


def test_a_policy_may_name_a_group_and_what_is_deployed_with_it() -> None:
    with LocalCloud("--auth", "enforce") as cloud:
        root = root_of(cloud)
        iam, deploy = cloud.client("iam", **root), cloud.client("codedeploy", **root)
        deploy.create_application(applicationName="app", computePlatform="Lambda")
        for name in ("mine", "other"):
            deploy.create_deployment_group(applicationName="app", deploymentGroupName=name, serviceRoleArn=ROLE)
        resource = "arn:aws:codedeploy:us-east-1:*:deploymentgroup:app/mine"
        allow = {"Effect": "Allow", "Action": "codedeploy:GetDeploymentGroup", "Resource": resource}
        iam.create_user(UserName="u")
        document = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
        iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=document)
        key = iam.create_access_key(UserName="u")["AccessKey"]
        user = cloud.client("codedeploy", access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])
        user.get_deployment_group(applicationName="app", deploymentGroupName="mine")
        code, words = refused(user.get_deployment_group, applicationName="app", deploymentGroupName="other")
        assert code == "AccessDeniedException"
        assert "deploymentgroup:app/other" in words


def template(version: int, hook: str = "good", config: str = "Canary10Percent5Minutes") -> str:
    code = f"def handler(event, context):\n    return {version}\n"
    allow = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = {"Version": "2012-10-17", "Statement": [allow]}
    role = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": trust}}

    def function(text: str) -> dict[str, Any]:
        members = {"Runtime": "python3.11", "Handler": "index.handler", "Code": {"ZipFile": text}, "Timeout": 30}
        return {"Type": "AWS::Lambda::Function", "Properties": {**members, "Role": {"Fn::GetAtt": ["Role", "Arn"]}}}

    update = {
        "ApplicationName": {"Ref": "App"},
        "DeploymentGroupName": {"Ref": "Group"},
        "BeforeAllowTrafficHook": {"Ref": hook.title()},
    }
    members = {
        "ApplicationName": {"Ref": "App"},
        "ServiceRoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
        "DeploymentConfigName": f"CodeDeployDefault.Lambda{config}",
        "DeploymentStyle": {"DeploymentType": "BLUE_GREEN", "DeploymentOption": "WITH_TRAFFIC_CONTROL"},
        "AutoRollbackConfiguration": {"Enabled": True, "Events": sorted(VALUES)},
        "AlarmConfiguration": {"Enabled": True, "Alarms": [{"Name": "errors"}]},
    }
    alias = {
        "Type": "AWS::Lambda::Alias",
        "UpdatePolicy": {"CodeDeployLambdaAliasUpdate": update},
        "Properties": {
            "FunctionName": {"Ref": "Fn"},
            "FunctionVersion": {"Fn::GetAtt": [f"Version{version}", "Version"]},
            "Name": "live",
        },
    }
    resources = {
        "Role": role,
        "Fn": function(code),
        "Good": function(HOOK % "Succeeded"),
        "Bad": function(HOOK % "Failed"),
        "App": {"Type": "AWS::CodeDeploy::Application", "Properties": {"ComputePlatform": "Lambda"}},
        "Group": {"Type": "AWS::CodeDeploy::DeploymentGroup", "Properties": members},
        f"Version{version}": {
            "Type": "AWS::Lambda::Version",
            "DeletionPolicy": "Retain",
            "Properties": {"FunctionName": {"Ref": "Fn"}},
        },
        "Alias": alias,
    }
    return json.dumps({"Resources": resources, "Outputs": {"Fn": {"Value": {"Ref": "Fn"}}}})


def test_a_stack_waits_for_the_shift_and_goes_back_with_it(cloud: LocalCloud) -> None:
    stacks, lambda_ = cloud.client("cloudformation"), cloud.client("lambda")
    stacks.create_stack(StackName="s", TemplateBody=template(1), Capabilities=["CAPABILITY_IAM"])
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    name = stacks.describe_stacks(StackName="s")["Stacks"][0]["Outputs"][0]["OutputValue"]

    def alias() -> tuple[str, dict[str, float]]:
        found = lambda_.get_alias(FunctionName=name, Name="live")
        return found["FunctionVersion"], (found.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {})

    def comes_to(status: str) -> None:
        eventually(lambda: stacks.describe_stacks(StackName="s")["Stacks"][0]["StackStatus"] == status)

    stacks.update_stack(StackName="s", TemplateBody=template(2), Capabilities=["CAPABILITY_IAM"])
    eventually(lambda: alias() == ("1", {"2": 0.1}))
    cloud.kill()
    cloud.start()
    assert alias() == ("1", {"2": 0.1})
    comes_to("UPDATE_IN_PROGRESS")
    cloud.advance(301)
    comes_to("UPDATE_COMPLETE")
    assert alias() == ("2", {})
    assert len(cloud.client("codedeploy").list_deployments()["deployments"]) == 1

    stacks.update_stack(StackName="s", TemplateBody=template(3, "bad"), Capabilities=["CAPABILITY_IAM"])
    comes_to("UPDATE_ROLLBACK_COMPLETE")
    hooked = {**json.loads(template(3)), "Hooks": {"Green": {"Type": "AWS::CodeDeploy::BlueGreen", "Properties": {}}}}
    assert (
        "the hook Green of AWS::CodeDeploy::BlueGreen"
        in refused(
            stacks.update_stack, StackName="s", TemplateBody=json.dumps(hooked), Capabilities=["CAPABILITY_IAM"]
        )[1]
    )
    assert alias() == ("2", {})
    reasons = [
        one.get("ResourceStatusReason", "")
        for one in stacks.describe_stack_events(StackName="s")["StackEvents"]
        if one["ResourceStatus"] == "UPDATE_FAILED" and one["LogicalResourceId"] == "Alias"
    ]
    assert "failed. The deployment failed because one or more of the lifecycle event validation" in reasons[0]
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert cloud.client("codedeploy").list_applications()["applications"] == []
