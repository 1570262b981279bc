"""What is measured and aimed at, and how it is told."""

import statistics

# By case: a figure's key, how it is called, its unit, and the most that Sealward may need of it
# where nginx needs one; None: told for its own sake.
CASES = {
    "small-get": [
        ("cpu", "small GETs, 64 connections: CPU", "us each", 1.3),
        ("p99", "  p99 latency", "ms", 1.5),
        ("p50", "  p50 latency", "ms", None),
        ("rate", "  requests a second (more is better)", "1/s", None),
    ],
    "down-1g": [("cpu", "large body down: CPU", "s/GiB", 1.0), ("wall", "  the time it takes", "s/GiB", None)],
    "up-1g": [("cpu", "large body up: CPU", "s/GiB", 1.0), ("wall", "  the time it takes", "s/GiB", None)],
    "handshake": [
        ("cpu", "full handshakes: CPU", "us each", 0.75),
        ("rate", "  handshakes a CPU second (more is better)", "1/s", None),
    ],
    "idle-10k": [
        ("idle", "idle connections: RSS more than before", "MiB", 1.5),
        ("idle_total", "  RSS in all", "MiB", None),
        ("kept", "idle after a GET on each: RSS more", "MiB", 1.5),
        ("kept_total", "  RSS in all", "MiB", None),
    ],
}
# Large bodies go through nginx in both of its ways, and the one that needs less counts.
TWICE = ["down-1g", "up-1g"]
OTHER_WAY = "nginx, unbuffered"
COLUMNS = ["sealward", "nginx", OTHER_WAY, "haproxy"]


def rows(case, found, void):
    """The rows of a case out of its rounds, by proxy, and of what made some of them void."""
    good = {label: runs for label, runs in found.items() if label not in void}
    ways = [way for way in ("nginx", OTHER_WAY) if way in good]
    against = min(ways, key=lambda way: statistics.median(run[CASES[case][0][0]] for run in good[way]), default=None)
    told = []
    for key, words, unit, goal in CASES[case]:
        ratios = {}
        for label in good:
            if against and label not in ("nginx", OTHER_WAY):
                # Round by round, so that what changes on the machine meanwhile changes both.
                each = [one[key] / other[key] for one, other in zip(good[label], good[against])]
                ratios[label] = {"median": statistics.median(each), "least": min(each), "most": max(each)}
        ours = ratios.get("sealward")
        verdict = None
        if goal is not None:
            # Without one of the two there is nothing to judge, and that is nobody's fault unless it failed.
            none = "void" if void else None
            verdict = none if ours is None else "met" if ours["median"] <= goal else "not met"
        told.append(
            {
                "case": case,
                "figure": key,
                "words": words,
                "unit": unit,
                "goal": goal,
                "verdict": verdict,
                "against": against,
                "median": {label: statistics.median(run[key] for run in runs) for label, runs in good.items()},
                "rounds": {label: [run[key] for run in runs] for label, runs in good.items()},
                "ratios": ratios,
                "void": void,
            }
        )
    return told


def head():
    names = "".join(f"{name:>18}" for name in COLUMNS)
    print(f"{'':<44}{'':>7}{names}   {'sealward / nginx':<22}haproxy / nginx")


def tell(row):
    cells = "".join(f"{figure(row, label):>18}" for label in COLUMNS)
    ours, theirs = row["ratios"].get("sealward"), row["ratios"].get("haproxy")
    ratio = f"{ours['median']:.2f}" if ours else "-"
    if ours and ours["least"] != ours["most"]:
        ratio += f" ({ours['least']:.2f} to {ours['most']:.2f})"
    other = f"{theirs['median']:.2f}" if theirs else "-"
    judged = f"  goal {row['goal']}: {row['verdict']}" if row["verdict"] else ""
    print(f"{row['words']:<44}{row['unit']:>7}{cells}   {ratio:<22}{other:<5}{judged}".rstrip())


def figure(row, label):
    value = row["median"].get(label)
    if value is None:
        return "void" if label in row["void"] else ""
    mark = "*" if label == row["against"] and OTHER_WAY in row["median"] else ""
    return f"{value:,.{0 if value >= 1000 else 1 if value >= 10 else 2}f}{mark}"
