"""The types of resources that groups can have: what CloudFormation calls what an ARN names."""

from __future__ import annotations

import re

# By the service of an ARN and, where it has resources of several types, the words of the resource.
_TYPES = {
    "acm": "AWS::CertificateManager::Certificate",
    "acm-pca": "AWS::ACMPCA::CertificateAuthority",
    "apigateway:apikeys": "AWS::ApiGateway::ApiKey",
    "apigateway:apis": "AWS::ApiGatewayV2::Api",
    "apigateway:apis:stages": "AWS::ApiGatewayV2::Stage",
    "apigateway:domainnames": "AWS::ApiGateway::DomainName",
    "apigateway:restapis": "AWS::ApiGateway::RestApi",
    "apigateway:restapis:stages": "AWS::ApiGateway::Stage",
    "apigateway:usageplans": "AWS::ApiGateway::UsagePlan",
    "appmesh:mesh": "AWS::AppMesh::Mesh",
    "appmesh:mesh:virtualGateway": "AWS::AppMesh::VirtualGateway",
    "appmesh:mesh:virtualGateway:gatewayRoute": "AWS::AppMesh::GatewayRoute",
    "appmesh:mesh:virtualNode": "AWS::AppMesh::VirtualNode",
    "appmesh:mesh:virtualRouter": "AWS::AppMesh::VirtualRouter",
    "appmesh:mesh:virtualRouter:route": "AWS::AppMesh::Route",
    "appmesh:mesh:virtualService": "AWS::AppMesh::VirtualService",
    "cloudformation:stack": "AWS::CloudFormation::Stack",
    "cloudwatch:alarm": "AWS::CloudWatch::Alarm",
    "cloudwatch:dashboard": "AWS::CloudWatch::Dashboard",
    "cloudwatch:insight-rule": "AWS::CloudWatch::InsightRule",
    "codedeploy:application": "AWS::CodeDeploy::Application",
    "codedeploy:deploymentgroup": "AWS::CodeDeploy::DeploymentGroup",
    "dynamodb:table": "AWS::DynamoDB::Table",
    "ec2:customer-gateway": "AWS::EC2::CustomerGateway",
    "ec2:dhcp-options": "AWS::EC2::DHCPOptions",
    "ec2:elastic-ip": "AWS::EC2::EIP",
    "ec2:image": "AWS::EC2::Image",
    "ec2:instance": "AWS::EC2::Instance",
    "ec2:internet-gateway": "AWS::EC2::InternetGateway",
    "ec2:launch-template": "AWS::EC2::LaunchTemplate",
    "ec2:natgateway": "AWS::EC2::NatGateway",
    "ec2:network-acl": "AWS::EC2::NetworkAcl",
    "ec2:network-interface": "AWS::EC2::NetworkInterface",
    "ec2:route-table": "AWS::EC2::RouteTable",
    "ec2:security-group": "AWS::EC2::SecurityGroup",
    "ec2:snapshot": "AWS::EC2::Snapshot",
    "ec2:subnet": "AWS::EC2::Subnet",
    "ec2:transit-gateway": "AWS::EC2::TransitGateway",
    "ec2:volume": "AWS::EC2::Volume",
    "ec2:vpc": "AWS::EC2::VPC",
    "ec2:vpc-endpoint": "AWS::EC2::VPCEndpoint",
    "ec2:vpc-peering-connection": "AWS::EC2::VPCPeeringConnection",
    "ec2:vpn-connection": "AWS::EC2::VPNConnection",
    "ec2:vpn-gateway": "AWS::EC2::VPNGateway",
    "ecr:repository": "AWS::ECR::Repository",
    "ecs:capacity-provider": "AWS::ECS::CapacityProvider",
    "ecs:cluster": "AWS::ECS::Cluster",
    "ecs:service": "AWS::ECS::Service",
    "ecs:task": "AWS::ECS::Task",
    "ecs:task-definition": "AWS::ECS::TaskDefinition",
    "elasticloadbalancing:listener": "AWS::ElasticLoadBalancingV2::Listener",
    "elasticloadbalancing:listener-rule": "AWS::ElasticLoadBalancingV2::ListenerRule",
    "elasticloadbalancing:loadbalancer": "AWS::ElasticLoadBalancingV2::LoadBalancer",
    "elasticloadbalancing:targetgroup": "AWS::ElasticLoadBalancingV2::TargetGroup",
    "events:event-bus": "AWS::Events::EventBus",
    "events:rule": "AWS::Events::Rule",
    "iam:instance-profile": "AWS::IAM::InstanceProfile",
    "iam:policy": "AWS::IAM::ManagedPolicy",
    "kms:key": "AWS::KMS::Key",
    "lambda:function": "AWS::Lambda::Function",
    "logs:log-group": "AWS::Logs::LogGroup",
    "resource-groups:group": "AWS::ResourceGroups::Group",
    "route53:healthcheck": "AWS::Route53::HealthCheck",
    "route53:hostedzone": "AWS::Route53::HostedZone",
    "s3": "AWS::S3::Bucket",
    "scheduler:schedule-group": "AWS::Scheduler::ScheduleGroup",
    "secretsmanager:secret": "AWS::SecretsManager::Secret",
    "servicediscovery:service": "AWS::ServiceDiscovery::Service",
    "sns": "AWS::SNS::Topic",
    "sqs": "AWS::SQS::Queue",
    "ssm:parameter": "AWS::SSM::Parameter",
    "states:activity": "AWS::StepFunctions::Activity",
    "states:stateMachine": "AWS::StepFunctions::StateMachine",
    "xray:group": "AWS::XRay::Group",
    "xray:sampling-rule": "AWS::XRay::SamplingRule",
}
KNOWN = frozenset(_TYPES.values())


def type_of(arn: str) -> str | None:
    """The type of what an ARN names, or None where groups cannot have it."""
    service, resource = arn.split(":", 5)[2::3]
    words = re.split("[:/]", resource.removeprefix("/"))
    path = ":".join(words[::2])  # of mesh/m/virtualNode/n the words that are no names
    return _TYPES.get(f"{service}:{path}") or _TYPES.get(f"{service}:{words[0]}") or _TYPES.get(service)
