"""What the peers' benchmark aims at, and how its figures are told."""

import statistics

FIGURES = {
    "mib_s": "MiB/s",
    "cpu_s_per_gib": "CPU-s/GiB",
    "req_s": "req/s",
    "cpu_us_per_req": "CPU us/req",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "rss_mib": "RSS MiB",
}
NGINX, RCLONE = ("nginx", "nginx-buffered"), ("rclone-s3",)
OURS = "sealward"
BUDGET = 256  # MiB of buffers, as it comes
LARGE = {"put": ("put-1g", "put-8x64m"), "get": ("get-1g", "get-8x64m")}

# Which case and figure; whether it is the most or the least that is allowed; how often whose figure,
# or of nobody's, that itself.
GOALS = []
for put, get in zip(LARGE["put"], LARGE["get"]):
    GOALS += [(put, "cpu_s_per_gib", "<=", 1.0, NGINX), (put, "cpu_s_per_gib", "<=", 1 / 7, RCLONE)]
    GOALS += [(get, "cpu_s_per_gib", "<=", 0.8, NGINX), (get, "cpu_s_per_gib", "<=", 1 / 3, RCLONE)]
    GOALS += [(put, "mib_s", ">=", 1.0, NGINX), (put, "mib_s", ">=", 3.0, RCLONE), (get, "mib_s", ">=", 1.0, NGINX)]
    GOALS += [(f"{put}-tls", "cpu_s_per_gib", "<=", 1.0, NGINX), (f"{get}-tls", "cpu_s_per_gib", "<=", 1.0, NGINX)]
GOALS += [
    ("put-4k", "req_s", ">=", 0.6, NGINX),
    ("put-4k", "req_s", ">=", 6.0, RCLONE),
    ("put-4k", "p99_ms", "<=", 2.0, NGINX),
    ("get-4k", "req_s", ">=", 0.6, NGINX),
    ("range-256k", "req_s", ">=", 0.7, NGINX),
    ("handshake", "cpu_us_per_req", "<=", 0.75, NGINX),
    ("put-8x64m", "rss_mib", "<=", 64 + BUDGET, None),
    ("put-512", "rss_mib", "<=", 64 + BUDGET, None),
    ("put-8x64m-32m", "rss_mib", "<=", 96, None),
    ("put-512-32m", "rss_mib", "<=", 96, None),
    ("ttfb-1g", "p50_ms", "<=", 1.5, NGINX),
]


def row(system, case, runs, void):
    """One of the list that is written: medians of rounds, of memory the most."""
    told = {"system": system, "case": case}
    rounds = {key: [run[key] for run in runs] for key in FIGURES if runs and key in runs[0]}
    for key in FIGURES:
        of = max if key == "rss_mib" else statistics.median
        told[key] = of(rounds[key]) if key in rounds else None
    return {**told, "rounds": rounds, "void": void}


def judged(rows, cases, names, absent):
    """The verdict on each goal of what was asked for; none to a peer that isn't there."""
    by = {(row["system"], row["case"]): row for row in rows}
    told = []
    for case, figure, way, goal, against in GOALS:
        others = [name for name in against or () if name in names]
        if case not in cases or OURS not in names or (against and not others):
            continue
        verdict = {"case": case, "figure": figure, "way": way, "goal": goal, "against": None, "verdict": "void"}
        told.append({**verdict, "ratio": None, "least": None, "most": None})
        if any(name in absent for name in others):
            told[-1]["verdict"] = "not judged"
            continue
        # Of nginx's ways the better, unless one that is judged by has failed.
        theirs = [by[name, case] for name in others if (name, case) in by]
        ours = by.get((OURS, case))
        if not ours or ours["void"] or any(other["void"] for other in theirs) or (against and not theirs):
            continue
        found = {"ratio": ours[figure], "least": min(ours["rounds"][figure]), "most": max(ours["rounds"][figure])}
        if against:
            best = (min if way == "<=" else max)(theirs, key=lambda other: other[figure])
            each = [one / other for one, other in zip(ours["rounds"][figure], best["rounds"][figure])]
            found = {"ratio": ours[figure] / best[figure], "least": min(each), "most": max(each)}
            found["against"] = best["system"]
        # To what figures are worth: hundredths of a second are counted.
        ratio = round(found["ratio"], 6)
        met = ratio <= goal if way == "<=" else ratio >= goal
        told[-1] |= found | {"verdict": "met" if met else "not met"}
    return told


def head():
    print(f"{'':<18}{'':<16}" + "".join(f"{words:>12}" for words in FIGURES.values()))


def tell(row):
    if row["void"]:
        return print(f"{row['case']:<18}{row['system']:<16}  void: {row['void']}")
    cells = "".join(f"{number(row[key]):>12}" for key in FIGURES)
    return print(f"{row['case']:<18}{row['system']:<16}{cells}")


def number(value):
    if value is None:
        return "-"
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


# The columns of the short table: of a case, which two figures.
COLUMNS = {
    **{case: ("mib_s", "cpu_s_per_gib") for case in ("put-1g", "get-1g", "put-8x64m", "get-8x64m")},
    **{case: ("req_s", "cpu_us_per_req") for case in ("put-4k", "get-4k", "range-256k", "handshake")},
}


def short(rows, names):
    """A line for each system: MiB/s / CPU-s per GiB, requests a second / CPU us each, and the peak."""
    by = {(row["system"], row["case"]): row for row in rows}
    cases = [case for case in COLUMNS if any(row["case"] == case for row in rows)]
    if not cases:
        return
    print("\nMiB/s / CPU-s per GiB; requests a second / CPU us of each; RSS of 8 x 64 MiB put")
    print(f"{'':<16}" + "".join(f"{case:>16}" for case in cases) + f"{'RSS MiB':>10}")
    for name in names:
        cells = ""
        for case in cases:
            one = by.get((name, case))
            words = "-" if not one else "void" if one["void"] else " / ".join(number(one[key]) for key in COLUMNS[case])
            cells += f"{words:>16}"
        memory = by.get((name, "put-8x64m"), {}).get("rss_mib")
        print(f"{name:<16}{cells}{number(memory):>10}")


def verdicts(told):
    print(f"\n{'sealward':<18}{'':<14}{'to':<16}{'is':>8}  {'in rounds':<18}goal")
    for one in told:
        bound = f"{one['way']} {number(one['goal'])}"
        line = f"{one['case']:<18}{FIGURES[one['figure']]:<14}{one['against'] or '-':<16}{number(one['ratio']):>8}"
        spread = f"{number(one['least'])} to {number(one['most'])}" if one["least"] is not None else ""
        print(f"{line}  {spread:<18}{bound}: {one['verdict']}")
