"""OpenSLO documents that the tests read and change, and what an error's place points at."""

from __future__ import annotations

import re

CHECKOUT = """
apiVersion: openslo/v1
kind: SLO
metadata: {name: checkout}
spec:
  service: shop
  indicator:
    metadata: {name: checkout}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: otelslo, spec: {indicator: availability, match: {route: "/checkout/*"}}}}
        total: {metricSource: {type: otelslo, spec: {indicator: availability}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.999}]
""".lstrip()
SEARCH = """
apiVersion: openslo/v1
kind: SLO
metadata: {name: search}
spec:
  service: shop
  indicator:
    metadata: {name: search}
    spec:
      thresholdMetric:
        metricSource: {type: otelslo, spec: {indicator: latency}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{op: lte, value: 500, target: 0.99}]
""".lstrip()
WINDOW, OBJECTIVE = "[{duration: 28d, isRolling: true}]", "[{target: 0.999}]"
METHOD = "budgetingMethod: Occurrences"
POLICY = """
  alertPolicies:
    - kind: AlertPolicy
      metadata: {name: fast}
      spec:
        alertWhenBreaching: true
        conditions:
          - kind: AlertCondition
            metadata: {name: fast-burn}
            spec:
              severity: page
              condition: {kind: burnrate, op: gt, threshold: 14.4, lookbackWindow: 1h}
        notificationTargets:
          - kind: AlertNotificationTarget
            metadata: {name: all-channels}
            spec: {target: otelslo}
""".lstrip("\n")
ALERTED = CHECKOUT + POLICY
REFERRED = """
apiVersion: openslo/v1
kind: SLO
metadata: {name: checkout, labels: {team: [a, b], tier: "1"}, annotations: {example.com/x: z}}
spec:
  description: Buying works
  service: shop
  indicatorRef: answers
  timeWindow: [{duration: 30d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.999}]
  alertPolicies: [{alertPolicyRef: pages}, {alertPolicyRef: tickets}]
---
- apiVersion: openslo/v1
  kind: Service
  metadata: {name: shop}
- apiVersion: openslo/v1
  kind: SLI
  metadata: {name: answers}
  spec:
    ratioMetric:
      good: {metricSource: {metricSourceRef: here, spec: {match: {method: POST}}}}
      total: {metricSource: {metricSourceRef: here, spec: {match: {method: POST}}}}
- apiVersion: openslo/v1
  kind: DataSource
  metadata: {name: here}
  spec: {type: otelslo, connectionDetails: {}}
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: pages}
spec:
  alertWhenBreaching: true
  alertWhenNoData: true
  conditions: [{conditionRef: fast-burn}]
  notificationTargets: [{targetRef: ops}]
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: tickets}
spec:
  alertWhenBreaching: true
  conditions: [{conditionRef: slow-burn}]
  notificationTargets: [{targetRef: desk}]
---
apiVersion: openslo/v1
kind: AlertCondition
metadata: {name: fast-burn, annotations: {otelslo.io/short: 4m}}
spec: {severity: critical, condition: {op: gt, threshold: 14.4, lookbackWindow: 1h, alertAfter: 2m}}
---
apiVersion: openslo/v1
kind: AlertCondition
metadata: {name: slow-burn, annotations: {otelslo.io/short: 2h}}
spec: {severity: ticket, condition: {kind: burnrate, op: gt, threshold: 3, lookbackWindow: 1d, alertAfter: 0m}}
---
apiVersion: openslo/v1
kind: AlertNotificationTarget
metadata: {name: ops, annotations: {otelslo.io/channel: '{webhook: {url: "env:OPS_HOOK"}}'}}
spec: {target: web-hook}
---
apiVersion: openslo/v1
kind: AlertNotificationTarget
metadata: {name: desk}
spec: {target: otelslo}
""".lstrip()
FOREIGN = CHECKOUT.replace("type: otelslo, spec: {indicator: availability", "type: Prometheus, spec: {query: up")
BURN = "condition: {kind: burnrate, op: gt, threshold: 14.4, lookbackWindow: 1h}"


def changed(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def annotated(text: str, annotation: str) -> str:
    """The SLO `checkout` with one annotation."""
    return changed(text, ("{name: checkout}\nspec", f"{{name: checkout, annotations: {{{annotation}}}}}\nspec"))


def pointed_at(text: str, message: str) -> str:
    """What stands at the place that a message begins with, to the end of its line."""
    place = re.match(r"slo\.yaml:(\d+):(\d+): ", message)
    assert place is not None, message
    return text.splitlines()[int(place[1]) - 1][int(place[2]) - 1 :]
