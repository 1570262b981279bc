"""What the soak is held to, and how it is told."""

import collections
import os

import ground
import watch
from stories import MIB

GROWTH = 1.0  # MiB a minute
THREADS = 4  # more than before
# The one target that is checked is asked on whichever thread, each of which keeps a connection to it.
CHECKS = len(os.sched_getaffinity(0))
SAMPLED = ("rss", "told_rss", "anonymous")


def leftovers(now, before, unfinished):
    """Each thing that may not be left: how much there is, and how much there may be."""
    kinds, were = now["kinds"], before["kinds"]
    own = ("s3", "kms", "app", "catalogue", "client")
    rest, rest_were = (sum(count for kind, count in of.items() if kind not in own) for of in (kinds, were))
    return {
        "client connections": (now["connections"], 0),
        "client sockets": (kinds.get("client", 0), 0),
        "connections to apps": (now["app_connections"], CHECKS),
        "sockets to apps": (kinds.get("app", 0), CHECKS),
        "requests under way to apps": (now["app_requests"], 0),
        "sockets in CLOSE-WAIT": (now["close_wait"], 0),
        "uploads under way": (now["uploads"], 0),
        "uploads unfinished in the store": (len(unfinished), 0),
        "bytes of buffers in use": (now["buffers"], 0),
        "catalogue connections in use": (now["catalogue_used"], 1),
        "catalogue connections": (now["catalogue_idle"], ground.POOL),
        "records in the spool": (now["spooled"], 0),
        # Each class asks for a name every 15 s, and the SDK lets go of none before it needs one: as many as it
        # took to prove them at the start.
        "connections to S3 and KMS": tuple(sum(of.get(kind, 0) for kind in ("s3", "kms")) for of in (kinds, were)),
        "other descriptors": (rest, rest_were),
        "threads": (now["threads"], before["threads"] + THREADS),
    }


def verdicts(told):
    """Every goal: its name, what is, what may be, and whether it is met."""
    rss, final = told["rss"], told["metrics"]
    goals = [("memory's slope, MiB/min", round(rss["slope"], 2), f"< {GROWTH:.0f}", rss["slope"] < GROWTH)]

    def exactly(name, value, wanted):
        value = int(value) if isinstance(value, float) else value
        goals.append((name, value, f"= {wanted}", value == wanted))

    exactly("failed requests", told["failed"], 0)
    exactly("kinds of requests not made", len(told["unmade"]), 0)
    exactly("names with other objects than were put", len(told["strays"]), 0)
    exactly("answers of 5xx", final["server_errors"], 0)
    exactly("objects not believed", final["tamper"], 0)
    exactly("uploads and downloads that failed", final["transfers_failed"], 0)
    exactly("records not written", final["records_failed"], 0)
    exactly("reloads taken up", final["reloads"], told["reloads"])
    exactly("reloads refused", final["reloads_refused"], 0)
    exactly("certificates published", final["certificates"], told["renewals"] + 1)
    exactly("certificates refused", final["certificates_refused"], 0)
    exactly("lines of the access log that failed", final["access_failed"], 0)
    exactly("warnings and errors in the log", sum(told["log"].values()), 0)
    exactly("seconds in which nobody could look", len(told["missed"]), 0)
    for name, (there, most) in told["left"].items():
        goals.append((f"left: {name}", int(there), f"<= {int(most)}", there <= most))
    exactly("exit code after SIGTERM", told["exit"], 0)
    return goals


def totals(final):
    """Of the last scrape, what is judged."""
    fives = {code for code in final.told("sealward_http_requests_total", "status") if code.startswith("5")}
    bad = {"failed", "lost", "unknown", "no_space", "too_large"}
    return {
        "server_errors": final.sum("sealward_http_requests_total", status=fives),
        "tamper": final.sum("sealward_tamper_total"),
        "transfers_failed": final.sum("sealward_uploads_total", outcome=bad)
        + final.sum("sealward_downloads_total", outcome=bad),
        "records_failed": final.sum("sealward_catalog_records_total", outcome="failed"),
        "reloads": final.sum("sealward_config_reloads_total", outcome="taken"),
        "reloads_refused": final.sum("sealward_config_reloads_total", outcome="refused"),
        "certificates": final.sum("sealward_certificate_loads_total", outcome="published"),
        "certificates_refused": final.sum("sealward_certificate_loads_total", outcome="refused"),
        "access_failed": final.sum("sealward_access_log_lines_total", outcome="failed"),
        "by_outcome": {
            name: final.told(f"sealward_{name}_total", label)
            for name, label in {
                "uploads": "outcome", "downloads": "outcome", "catalog_records": "outcome",
                "access_log_lines": "outcome", "connections_refused": "reason", "tls_handshakes": "outcome",
                "upstream_requests": "status", "http_requests": "status", "desync_requests": "reason",
                "quota_refusals": "kind", "upstream_retries": "outcome", "buffer_waits": "outcome",
            }.items()
        },
    }  # fmt: skip


def show(told):
    kinds = collections.Counter()
    for report in told["clients"].values():
        kinds.update(report["kinds"])
    print(f"\n{'request':<18}{'made':>10}   by")
    for kind, count in sorted(kinds.items()):
        by = [f"{name} {report['kinds'][kind]}" for name, report in told["clients"].items() if kind in report["kinds"]]
        print(f"{kind:<18}{count:>10,}   {', '.join(by)}")
    made, left = sum(kinds.values()), told["left_early"]
    print(f"\n{made:,} requests in {told['minutes']} minutes, {left:,} of them left by their clients;"
          f" {told['connections']:,} connections; {len(told['serials'])} certificates seen")  # fmt: skip
    for name, words in [("rss", "resident"), ("told_rss", "as told"), ("anonymous", "anonymous")]:
        one = told[name]
        print(f"{words:<12}{one['level']:>8.1f} MiB {one['slope']:>+8.2f} MiB/min (error {one['error']:.2f};"
              f" Theil-Sen {one['theil_sen']:+.2f}, of the least in {watch.BLOCK} s {one['least']:+.2f})")  # fmt: skip
    print(f"\n{'':<14}{'before':>10}{'most':>10}{'left':>10}")
    for key in ("rss", "anonymous", "buffers", "descriptors", "threads", "connections", "app_connections",
                "close_wait", "uploads", "catalogue_used", "catalogue_idle"):  # fmt: skip
        unit = MIB if key in ("rss", "anonymous", "buffers") else 1
        row = [told["before"][key], max(told["samples"][key]), told["after"][key]]
        print(f"{key + (' MiB' if unit > 1 else ''):<14}" + "".join(f"{value / unit:>10,.0f}" for value in row))
    print(f"descriptors before {told['before']['kinds']}\n      and after  {told['after']['kinds']}")
    rest = sorted(told["settled"].items(), key=lambda one: one[1])
    rest = ", ".join(f"{name} {seconds:.0f}" for name, seconds in rest)
    print(f"left to itself it came to rest after, in seconds: {rest}; and ended within {told['ended']:.1f}")
    for title, words in [
        ("What failed", told["words"]), ("Not made", told["unmade"]), ("Other objects", told["strays"][:10]),
        ("The log of those", told["lines"]), ("Missed looks", told["missed"][:10]),
        ("The log", [f"{count} x {words}" for words, count in told["log"].items()]),
    ]:  # fmt: skip
        if words:
            print(f"\n{title}:", *words, sep="\n  ")
    print(f"\n{'goal':<42}{'is':>12}  {'to be':<10}")
    for name, value, bound, met in told["goals"]:
        print(f"{name:<42}{str(value):>12}  {bound:<10}{'PASS' if met else 'MISSED'}")
