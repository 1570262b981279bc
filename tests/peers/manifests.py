#!/usr/bin/env python3
"""Judges what `kubectl kustomize config/kubernetes/production` makes: each object by Kubernetes's
own schemas, and all of them together by what they refer to and promise.

    manifests.py RENDERED METRICS     (with the interpreter of target/peers/running)

RENDERED is the file of manifests, METRICS is src/metrics.rs. Prints the configuration out of the
ConfigMap; faults go to standard error, one a line, with exit code 1.
"""

import ipaddress
import pathlib
import re
import sys
import tomllib

import kubernetes_validate
import yaml

# The first whose `sleep` in preStop needs no switch, and the newest that there are schemas of.
VERSIONS = ["1.30", kubernetes_validate.latest_version()]
# Kinds of the Prometheus Operator's, whose schemas aren't Kubernetes's.
FOREIGN = {"PrometheusRule", "ServiceMonitor"}
KINDS = {
    "Namespace": 1, "ServiceAccount": 1, "ConfigMap": 1, "Service": 2, "Deployment": 1, "PodDisruptionBudget": 1,
    "HorizontalPodAutoscaler": 1, "NetworkPolicy": 2, "PrometheusRule": 1,
    "ServiceMonitor": 1,
}
# What a pod mustn't reach: metadata services of EC2, of EKS's agent and of ECS.
FORBIDDEN = ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"]
# What it may reach: any address of the world by TLS, and a private one by PostgreSQL's port, too.
REACHED = {"203.0.113.7": {443}, "2001:db8::7": {443}, "10.1.2.3": {443, 5432}, "192.168.1.2": {443, 5432}}
# What sealward needs besides to undo what is cut, in seconds.
UNDOING = 7

faults = []


def holds(truth, words):
    if not truth:
        faults.append(words)


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def by_schema(objects):
    for it in objects:
        if it["kind"] in FOREIGN:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(it, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                faults.append(f"{it['kind']} {it['metadata']['name']}, Kubernetes {version}: {error}")


def selects(selector, labels):
    return bool(selector) and all(labels.get(name) == value for name, value in selector.items())


def lies_in(address, block):
    address, without = ipaddress.ip_address(address), map(ipaddress.ip_network, block.get("except", []))
    return address in ipaddress.ip_network(block["cidr"]) and not any(address in network for network in without)


def pod_of(deployment):
    """The restricted profile of the Pod Security Standards, and what is ours besides."""
    pod = deployment["spec"]["template"]["spec"]
    whole, (container,) = pod["securityContext"], pod["containers"]
    own = container["securityContext"]
    holds(whole.get("runAsNonRoot") is True and whole.get("runAsUser", 0) != 0, "the pod may be root's")
    holds(whole.get("seccompProfile", {}).get("type") == "RuntimeDefault", "the pod has no seccomp profile")
    holds(own.get("allowPrivilegeEscalation") is False, "the container may get more privileges")
    holds(own.get("capabilities") == {"drop": ["ALL"]}, "the container keeps capabilities")
    holds(own.get("readOnlyRootFilesystem") is True, "the container's file system can be written to")
    host = ("hostNetwork", "hostPID", "hostIPC")
    holds(not any(pod.get(name) for name in host), "the pod is in the host's namespaces")
    holds(pod.get("automountServiceAccountToken") is False, "the pod has Kubernetes's token")
    holds(not any("hostPath" in volume for volume in pod["volumes"]), "the pod has the host's files")
    keys = {spread["topologyKey"] for spread in pod["topologySpreadConstraints"]}
    holds("topology.kubernetes.io/zone" in keys, "pods aren't spread over zones")
    holds("replicas" not in deployment["spec"], "`replicas` undoes what the autoscaler did")
    holds("limits" in container["resources"] and "cpu" not in container["resources"]["limits"], "limits: memory alone")
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    holds(environment.get("AWS_EC2_METADATA_DISABLED") == "true", "the SDK asks the node for its role")
    return pod, container


def main(rendered, metrics):
    objects = list(yaml.safe_load_all(pathlib.Path(rendered).read_text()))
    by_schema(objects)
    counts = {kind: sum(it["kind"] == kind for it in objects) for kind in {it["kind"] for it in objects}}
    holds(counts == KINDS, f"there are {counts}")
    if faults:
        return
    of = lambda kind: [it for it in objects if it["kind"] == kind]
    (namespace,), (account,), (config_map,) = map(of, ("Namespace", "ServiceAccount", "ConfigMap"))
    (deployment,), (budget,) = map(of, ("Deployment", "PodDisruptionBudget"))
    (scaler,), (monitor,) = map(of, ("HorizontalPodAutoscaler", "ServiceMonitor"))
    name = deployment["metadata"]["name"]

    for it in objects:
        where = it["metadata"].get("namespace", it["metadata"]["name"])
        holds(where == namespace["metadata"]["name"], f"{it['kind']} is in another namespace")
    levels = namespace["metadata"]["labels"]
    holds(levels.get("pod-security.kubernetes.io/enforce") == "restricted", "the namespace isn't restricted")

    # --- The pod, and what it refers to
    pod, container = pod_of(deployment)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    holds(selects(deployment["spec"]["selector"]["matchLabels"], labels), "the Deployment doesn't select its pods")
    holds(pod["serviceAccountName"] == account["metadata"]["name"], "the pod's account isn't there")
    role = account["metadata"].get("annotations", {}).get("eks.amazonaws.com/role-arn", "")
    holds(re.fullmatch(r"arn:aws:iam::\d{12}:role/[\w+=,.@/-]+", role), f"the account has no role: {role}")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        holds(ports.get(container[probe]["httpGet"]["port"]) == ports["admin"], f"{probe} asks no admin port")
    holds(container["readinessProbe"]["httpGet"]["path"] == "/readyz", "who isn't ready gets requests")
    holds(container["livenessProbe"]["httpGet"]["path"] == "/healthz", "who isn't ready is restarted")
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    holds(mounts.keys() == volumes.keys(), "volumes and mounts don't fit")
    held = {volume["configMap"]["name"]: mounts[key] for key, volume in volumes.items() if "configMap" in volume}
    holds(config_map["metadata"]["name"] in held, "the ConfigMap isn't mounted")
    holds(re.search(r"-[a-z0-9]{10}$", config_map["metadata"]["name"]), "a changed configuration is no rollout")
    ((file, text),) = config_map["data"].items()
    wanted = f"{held.get(config_map['metadata']['name'])}/{file}"
    holds(container["args"] == ["serve", "--config", wanted], f"{container['args']} isn't of {wanted}")

    # --- The configuration, as far as it has to fit
    config = tomllib.loads(text)
    port_of = lambda bind: int(bind.rpartition(":")[2])
    holds([port_of(one["bind"]) for one in config["listener"]] == [ports["https"]], "the listener has another port")
    holds(port_of(config["admin"]["bind"]) == ports["admin"], "the admin side has another port")
    holds(not config["admin"]["bind"].startswith("127."), "nobody reaches the admin side")
    holds(config["catalog"].get("on_unavailable") == "deny", "a spool on a disk that goes with its pod")
    holds("catalog" in config["identity"]["tokens"], "each pod has tokens of its own")
    secrets = {secret["name"]: secret["source"] for secret in config["secret"]}
    tickets = pathlib.PurePath(secrets[config["listener"][0]["tls"]["ticket_secret"]["secret"]]["file"])
    shared = [mounts[key] for key, volume in volumes.items() if "secret" in volume]
    holds(str(tickets.parent) in shared, f"{tickets} is in no secret that pods share")
    grace = pod["terminationGracePeriodSeconds"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = pause + seconds(config["limits"]["drain_timeout"]) + UNDOING
    holds(grace > needed, f"killed after {grace} s, in the midst of a drain of {needed} s")

    # --- How many there are
    holds(selects(budget["spec"]["selector"]["matchLabels"], labels), "the budget is for no pod")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    holds(scaler["spec"]["scaleTargetRef"] == target, "nothing is scaled")
    holds(scaler["spec"]["minReplicas"] > budget["spec"]["minAvailable"], "no node can ever be drained")
    families = set(re.findall(r'"(sealward_[a-z_]+)"', pathlib.Path(metrics).read_text()))
    for metric in scaler["spec"]["metrics"]:
        holds(metric["pods"]["metric"]["name"] in families, f"there is no metric {metric['pods']['metric']['name']}")

    # --- Who reaches it, and whom it reaches
    services = of("Service")
    for service in services:
        holds(selects(service["spec"]["selector"], labels), f"the service {service['metadata']['name']} is for no pod")
        holds(all(port["targetPort"] in ports for port in service["spec"]["ports"]), "a service leads to no port")
    public = [service["spec"]["ports"] for service in services if service["spec"].get("clusterIP") != "None"]
    holds([[port["targetPort"] for port in ports] for ports in public] == [["https"]], "what is public isn't TLS alone")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    watched = [service for service in services if selects(wanted, service["metadata"]["labels"])]
    holds(len(watched) == 1, "not one service is watched")
    for endpoint in monitor["spec"]["endpoints"]:
        found = [port for service in watched for port in service["spec"]["ports"] if port["name"] == endpoint["port"]]
        holds([port["targetPort"] for port in found] == ["admin"], "what is watched isn't the admin side")
    policies = of("NetworkPolicy")
    ways = [sorted(policy["spec"]["policyTypes"]) for policy in policies]
    holds(all(way == ["Egress", "Ingress"] for way in ways), "a policy for one way")
    holds(sum(policy["spec"]["podSelector"] == {} for policy in policies) == 1, "there is no default")
    (policy,) = [policy["spec"] for policy in policies if policy["spec"]["podSelector"] != {}]
    holds(selects(policy["podSelector"]["matchLabels"], labels), "the policy is for no pod")
    for rule in policy["ingress"]:
        opened = {port["port"] for port in rule["ports"]}
        holds(opened <= ports.keys(), f"{opened} is no port")
        holds("from" in rule or opened == {"https"}, f"everybody reaches {opened}")
    opened = set()
    reached = {address: set() for address in [*FORBIDDEN, *REACHED]}
    for rule in policy["egress"]:
        holds(rule.get("to") and rule.get("ports"), "a rule for everywhere")
        found = {port["port"] for port in rule["ports"]}
        opened |= found
        for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
            for address in filter(lambda address: lies_in(address, block), reached):
                reached[address] |= found
    holds(opened == {53, 443, 5432}, f"it reaches {sorted(opened)}")
    for address, found in reached.items():
        wanted = REACHED.get(address, set())
        holds(found == wanted, f"{address} can be reached by {sorted(found)}, and should be by {sorted(wanted)}")
    print(text, end="")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)
