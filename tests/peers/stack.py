#!/usr/bin/env python3
"""Deploys the templates of config/aws into moto, and tells what came of it as JSON.

    stack.py deploy ENDPOINT STACK TEMPLATE [NAME=VALUE ...]    (with the interpreter of target/peers/aws)
    stack.py look ENDPOINT STACK
    stack.py resolve TEMPLATE [NAME=VALUE ...]

`deploy` has moto's CloudFormation make the stack, and prints its `outputs`. moto doesn't know every
type, nor every property of those it knows. What it left out is then made by the calls that
CloudFormation would make, from the same properties, and named under `completed`. A VPC that a template
asks for and nobody names is the default one.

`look` asks the services how what the stack made is set, and what trails there are.

`resolve` asks nobody: it prints the resources as they would be, with names in place of the ids that
AWS would give, for those who judge the text of policies.
"""

import json
import pathlib
import re
import sys

import boto3
import yaml
from botocore.config import Config

ACCOUNT, REGION = "123456789012", "eu-west-1"
# What moto's CloudFormation can't tell of a database. It can be known only when that is completed.
UNTOLD = {
    "Database.MasterUserSecret.SecretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!db-untold",
    "Database.DBInstanceArn": f"arn:aws:rds:{REGION}:{ACCOUNT}:db:untold",
}
# And what it stumbles over: a group that the same template makes. That is completed too.
STUMBLED = ("Database", "DBParameterGroupName")
NOTHING = object()


# ---- Templates


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", short_form)


class Template:
    """A template with its parameters: what it says once every function in it is done."""

    def __init__(self, text, given, ids=None):
        self.parsed = yaml.load(text, Loader)
        self.given = given
        # The ids of what was made; until then everything is called as it is in the template.
        self.ids = ids or {}

    def parameter(self, name):
        declared = self.parsed["Parameters"][name]
        value = self.given.get(name, declared.get("Default"))
        if value is None:
            raise SystemExit(f"the parameter {name} is missing")
        lists = declared["Type"] == "CommaDelimitedList" or declared["Type"].startswith("List<")
        return str(value).split(",") if lists else str(value)

    def holds(self, name):
        return self.resolve(self.parsed["Conditions"][name])

    def resources(self):
        found = {}
        for name, resource in self.parsed["Resources"].items():
            if "Condition" not in resource or self.holds(resource["Condition"]):
                found[name] = {"Type": resource["Type"], "Properties": self.resolve(resource.get("Properties", {}))}
        return found

    def resolve(self, value):
        if isinstance(value, list):
            return [one for one in map(self.resolve, value) if one is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            function, of = next(iter(value.items()))
            if function == "Ref":
                return self.ref(of)
            if function == "Condition" and isinstance(of, str):
                return self.holds(of)
            if function.startswith("Fn::"):
                return getattr(self, function[4:].lower() + "_")(of)
        resolved = {name: self.resolve(inner) for name, inner in value.items()}
        return {name: inner for name, inner in resolved.items() if inner is not NOTHING}

    def ref(self, name):
        pseudo = {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::Partition": "aws", "AWS::NoValue": NOTHING}
        if name in pseudo:
            return pseudo[name]
        if name in self.parsed["Parameters"]:
            return self.parameter(name)
        resource = self.parsed["Resources"][name]
        if name not in self.ids and resource["Type"] == "AWS::S3::Bucket":
            return self.resolve(resource["Properties"]["BucketName"])
        return self.ids.get(name, name)

    def getatt_(self, of):
        name, attribute = of
        resource, found = self.parsed["Resources"][name]["Type"], self.ref(name)
        if attribute == "GroupId":
            return found
        if attribute == "Arn":
            service, kind = {
                "AWS::KMS::Key": (f"kms:{REGION}:{ACCOUNT}", "key/"),
                "AWS::S3::Bucket": ("s3::", ""),
                "AWS::IAM::Role": (f"iam::{ACCOUNT}", "role/"),
            }[resource]
            return f"arn:aws:{service}:{kind}{found}"
        return UNTOLD.get(f"{name}.{attribute}", f"{name}.{attribute}")

    def sub_(self, of):
        text, own = (of, {}) if isinstance(of, str) else of

        def put(match):
            name = match[1]
            if name in own:
                return self.resolve(own[name])
            return self.getatt_(name.split(".", 1)) if "." in name else self.ref(name)

        return re.sub(r"\$\{([^}]+)\}", put, text)

    def if_(self, of):
        return self.resolve(of[1] if self.holds(of[0]) else of[2])

    def join_(self, of):
        return of[0].join(self.resolve(of[1]))

    def split_(self, of):
        return self.resolve(of[1]).split(of[0])

    def equals_(self, of):
        return self.resolve(of[0]) == self.resolve(of[1])

    def not_(self, of):
        return not self.resolve(of[0])

    def and_(self, of):
        return all(map(self.resolve, of))

    def or_(self, of):
        return any(map(self.resolve, of))


# ---- What moto's CloudFormation leaves out


class Services:
    """Clients of one endpoint, by name."""

    def __init__(self, endpoint):
        self.options = {
            "endpoint_url": endpoint,
            "region_name": REGION,
            "config": Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        }

    def __getattr__(self, name):
        client = boto3.client(name, **self.options)
        setattr(self, name, client)
        return client


def rule_of(said):
    """A lifecycle rule as S3's own call has it."""
    rule = {"ID": said["Id"], "Status": said["Status"], "Filter": {"Prefix": said.get("Prefix", "")}}
    if "AbortIncompleteMultipartUpload" in said:
        days = int(said["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"])
        rule["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": days}
    if "NoncurrentVersionExpiration" in said:
        days = int(said["NoncurrentVersionExpiration"]["NoncurrentDays"])
        rule["NoncurrentVersionExpiration"] = {"NoncurrentDays": days}
    if "ExpirationInDays" in said:
        rule["Expiration"] = {"Days": int(said["ExpirationInDays"])}
    if "ExpiredObjectDeleteMarker" in said:
        rule["Expiration"] = {"ExpiredObjectDeleteMarker": said["ExpiredObjectDeleteMarker"]}
    return rule


def key(aws, made, said):
    # Given it by CloudFormation, moto can't read it again.
    aws.kms.put_key_policy(KeyId=made, PolicyName="default", Policy=json.dumps(said["KeyPolicy"]))


def bucket(aws, name, said):
    rules = [
        {"ApplyServerSideEncryptionByDefault": one["ServerSideEncryptionByDefault"]}
        | {name: one[name] for name in one if name != "ServerSideEncryptionByDefault"}
        for one in said["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    ]
    aws.s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": rules})
    aws.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=said["VersioningConfiguration"])
    block = said["PublicAccessBlockConfiguration"]
    aws.s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=block)
    aws.s3.put_bucket_ownership_controls(Bucket=name, OwnershipControls=said["OwnershipControls"])
    rules = {"Rules": [rule_of(rule) for rule in said["LifecycleConfiguration"]["Rules"]]}
    aws.s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=rules)


def bucket_policy(aws, _, said):
    aws.s3.put_bucket_policy(Bucket=said["Bucket"], Policy=json.dumps(said["PolicyDocument"]))


def trail(aws, _, said):
    named = {"TrailName": "Name", "KMSKeyId": "KmsKeyId"}
    options = {named.get(name, name): value for name, value in said.items()}
    selectors, logs = options.pop("EventSelectors"), options.pop("IsLogging")
    aws.cloudtrail.create_trail(**options)
    aws.cloudtrail.put_event_selectors(TrailName=options["Name"], EventSelectors=selectors)
    if logs:
        aws.cloudtrail.start_logging(Name=options["Name"])


def database(aws, name, said):
    aws.rds.modify_db_instance(
        DBInstanceIdentifier=name,
        ManageMasterUserPassword=said["ManageMasterUserPassword"],
        MasterUserSecretKmsKeyId=said["MasterUserSecret"]["KmsKeyId"],
        DBParameterGroupName=said["DBParameterGroupName"],
        VpcSecurityGroupIds=said["VPCSecurityGroups"],
        DeletionProtection=said["DeletionProtection"],
        ApplyImmediately=True,
    )


COMPLETE = {
    "AWS::KMS::Key": key,
    "AWS::S3::Bucket": bucket,
    "AWS::S3::BucketPolicy": bucket_policy,
    "AWS::CloudTrail::Trail": trail,
    "AWS::RDS::DBInstance": database,
}


# ---- What is asked


def network(aws, template, given):
    """The default VPC, where the template wants one."""
    wanted = {declared["Type"]: name for name, declared in template.parsed["Parameters"].items()}
    if "AWS::EC2::VPC::Id" not in wanted:
        return given
    vpc = aws.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    within = [{"Name": "vpc-id", "Values": [vpc]}]
    subnets = [one["SubnetId"] for one in aws.ec2.describe_subnets(Filters=within)["Subnets"]]
    groups = [one["GroupId"] for one in aws.ec2.describe_security_groups(Filters=within)["SecurityGroups"]]
    there = {
        wanted["AWS::EC2::VPC::Id"]: vpc,
        wanted["List<AWS::EC2::Subnet::Id>"]: ",".join(subnets[:2]),
        wanted["AWS::EC2::SecurityGroup::Id"]: groups[0],
    }
    return {**there, **given}


def for_moto(template):
    """The template without what moto can't do. As JSON it reads what it can't read as YAML."""

    def told(value):
        if isinstance(value, list):
            return [told(one) for one in value]
        if not isinstance(value, dict):
            return value
        attribute = ".".join(value["Fn::GetAtt"]) if "Fn::GetAtt" in value else None
        return UNTOLD.get(attribute) or {name: told(inner) for name, inner in value.items()}

    template = told(template)
    resource, stumbled = STUMBLED
    template["Resources"].get(resource, {"Properties": {}})["Properties"].pop(stumbled, None)
    return template


def made_by(aws, stack):
    """Name, type and id of what moto made."""
    found = []
    for one in aws.cloudformation.describe_stack_resources(StackName=stack)["StackResources"]:
        # Of what it left out it lists nothing but that.
        if "LogicalResourceId" in one:
            name, kind, made = one["LogicalResourceId"], one["ResourceType"], one.get("PhysicalResourceId")
            found.append((name, kind, made or untold(aws, f"{stack}-{name}-".lower(), kind)))
    return found


def untold(aws, beginning, kind):
    """The id that moto doesn't tell: it begins as all that it gives."""
    listed = {
        "AWS::RDS::DBParameterGroup": lambda: aws.rds.describe_db_parameter_groups()["DBParameterGroups"],
        "AWS::RDS::DBSubnetGroup": lambda: aws.rds.describe_db_subnet_groups()["DBSubnetGroups"],
    }[kind]()
    names = [one.get("DBParameterGroupName") or one["DBSubnetGroupName"] for one in listed]
    (made,) = [name for name in names if name.startswith(beginning)]
    return made


def deploy(endpoint, stack, path, given):
    aws = Services(endpoint)
    text = pathlib.Path(path).read_text(encoding="utf-8")
    given = network(aws, Template(text, given), given)
    sent = json.dumps(for_moto(Template(text, given).parsed))
    parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()]
    aws.cloudformation.create_stack(
        StackName=stack, TemplateBody=sent, Parameters=parameters, Capabilities=["CAPABILITY_IAM"]
    )
    made = aws.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    if made["StackStatus"] != "CREATE_COMPLETE":
        raise SystemExit(f"{stack}: {made['StackStatus']}, {made.get('StackStatusReason')}")
    ids = {name: made for name, _, made in made_by(aws, stack)}
    resources = Template(text, given, ids).resources()
    completed = []
    # In the order of the template, where each stands behind what it needs.
    for name, resource in resources.items():
        if resource["Type"] in COMPLETE:
            COMPLETE[resource["Type"]](aws, ids.get(name), resource["Properties"])
            completed.append(name)
    unmade = [name for name in resources if name not in ids and name not in completed]
    if unmade:
        raise SystemExit(f"{stack}: nobody made {', '.join(unmade)}")
    outputs = {one["OutputKey"]: one["OutputValue"] for one in made.get("Outputs", [])}
    if "Database" in ids:
        about = aws.rds.describe_db_instances(DBInstanceIdentifier=ids["Database"])["DBInstances"][0]
        secret = UNTOLD["Database.MasterUserSecret.SecretArn"]
        outputs = {name: said.replace(secret, about["MasterUserSecret"]["SecretArn"]) for name, said in outputs.items()}
    return {
        "outputs": outputs,
        "made": {name: resources[name]["Type"] for name in ids},
        "completed": completed,
    }


def look(endpoint, stack):
    aws = Services(endpoint)
    found = {}
    for name, kind, made in made_by(aws, stack):
        if kind == "AWS::KMS::Key":
            rotation = aws.kms.get_key_rotation_status(KeyId=made)["KeyRotationEnabled"]
            found[name] = {"rotates": rotation, "about": aws.kms.describe_key(KeyId=made)["KeyMetadata"]}
        elif kind == "AWS::S3::Bucket":
            found[name] = {
                "encryption": aws.s3.get_bucket_encryption(Bucket=made)["ServerSideEncryptionConfiguration"]["Rules"],
                "lifecycle": aws.s3.get_bucket_lifecycle_configuration(Bucket=made)["Rules"],
                "public": aws.s3.get_public_access_block(Bucket=made)["PublicAccessBlockConfiguration"],
                "versioning": aws.s3.get_bucket_versioning(Bucket=made)["Status"],
                "ownership": aws.s3.get_bucket_ownership_controls(Bucket=made)["OwnershipControls"]["Rules"],
            }
        elif kind == "AWS::IAM::Role":
            attached = aws.iam.list_attached_role_policies(RoleName=made)["AttachedPolicies"]
            trust = aws.iam.get_role(RoleName=made)["Role"]["AssumeRolePolicyDocument"]
            found[name] = {"attached": sorted(one["PolicyArn"] for one in attached), "trust": trust}
        elif kind == "AWS::RDS::DBInstance":
            found[name] = aws.rds.describe_db_instances(DBInstanceIdentifier=made)["DBInstances"][0]
            secret = found[name].get("MasterUserSecret", {}).get("SecretArn")
            if secret:
                found[name]["Secret"] = aws.secretsmanager.describe_secret(SecretId=secret)
        elif kind == "AWS::RDS::DBParameterGroup":
            pages = aws.rds.describe_db_parameters(DBParameterGroupName=made)["Parameters"]
            found[name] = {one["ParameterName"]: one.get("ParameterValue") for one in pages}
    found["trails"] = []
    for one in aws.cloudtrail.describe_trails()["trailList"]:
        status = aws.cloudtrail.get_trail_status(Name=one["Name"])
        selectors = aws.cloudtrail.get_event_selectors(TrailName=one["Name"])["EventSelectors"]
        found["trails"].append({**one, "IsLogging": status["IsLogging"], "EventSelectors": selectors})
    return found


def named(arguments):
    return dict(argument.split("=", 1) for argument in arguments)


def main():
    job, *rest = sys.argv[1:]
    if job == "deploy":
        endpoint, stack, path, *given = rest
        answer = deploy(endpoint, stack, path, named(given))
    elif job == "look":
        answer = look(*rest)
    elif job == "resolve":
        path, *given = rest
        answer = Template(pathlib.Path(path).read_text(encoding="utf-8"), named(given)).resources()
    else:
        raise SystemExit(__doc__)
    print(json.dumps(answer, default=str))


if __name__ == "__main__":
    main()
