#!/usr/bin/env bash
# The rules of config/prometheus as a kind of the Prometheus Operator's, since kustomize can't put a
# file into an object's midst. Whoever changes rules runs this anew; a test compares.
#
#   config/kubernetes/monitoring/rules.sh > config/kubernetes/monitoring/prometheusrule.yaml
set -euo pipefail

rules="$(cd "$(dirname "${BASH_SOURCE[0]}")/../../prometheus" && pwd)"
cat <<'END'
# Made by rules.sh, out of config/prometheus: what is changed here is lost.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: sealward
  labels:
    app.kubernetes.io/name: sealward
spec:
  groups:
END
for file in recording alerts; do
    grep -qx 'groups:' "$rules/$file.yml"
    sed -e '1,/^groups:$/d' -e '/^ *#/d' -e '/^$/d' -e 's/^/  /' "$rules/$file.yml"
done
