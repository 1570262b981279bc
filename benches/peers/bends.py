"""Where cost bends, as more is at once or objects grow: how `growth.py`'s figures are told."""

import statistics

import figures

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SIZES = {
    "4k": 4 * KIB, "64k": 64 * KIB, "256k": 256 * KIB, "1m": MIB, "8m": 8 * MIB, "64m": 64 * MIB, "1g": GIB,
    "4g": 4 * GIB,
}  # fmt: skip
AT_ONCE = (1, 8, 64, 512)
CROWDS = ("64k", "1m")
WAYS = ("put", "get")
BENDS = 0.1  # what is that far from where it should be is marked
COLUMNS = {
    "mib_s": "MiB/s",
    "cpu_s_per_gib": "CPU-s/GiB",
    "cpu_us_per_req": "CPU us each",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "rss_mib": "RSS MiB",
    "client_s_per_gib": "client s/GiB",
    "client_us_per_req": "client us",
}


def crowded(way, what, at_once):
    return f"{way}-{what}-at-{at_once}"


def row(name, title, runs, void):
    """Medians of rounds, of memory the most."""
    rounds = {key: [run[key] for run in runs or []] for key in ("made", *COLUMNS)}
    medians = {
        key: (max if key == "rss_mib" else statistics.median)(values) if values else None
        for key, values in rounds.items()
    }
    return {"system": name, "case": title, **medians, "rounds": rounds, "void": void}


def head():
    print(f"{'':<18}{'':<16}" + "".join(f"{words:>13}" for words in COLUMNS.values()))


def tell(one):
    begin = f"{one['case']:<18}{one['system']:<16}"
    cells = "".join(f"{figures.number(one[key]):>13}" for key in COLUMNS)
    print(f"{begin}  void: {one['void']}" if one["void"] else begin + cells)


def line(points):
    """Of (size, cost), the a and b of cost = a + b * size whose deviations have the least squares, each as a
    share of its cost: or only the largest would count."""
    weights = [(size, cost, 1 / cost**2) for size, cost in points]
    one, size, square = (sum(weight * at**power for at, _, weight in weights) for power in (0, 1, 2))
    cost, product = (sum(weight * cost * at**power for at, cost, weight in weights) for power in (0, 1))
    b = (one * product - size * cost) / (one * square - size**2)
    return (cost - b * size) / one, b


def lines(rows):
    """Of each system and way, the line through the sizes, and how far each is from it."""
    found = []
    for way in WAYS:
        for name in dict.fromkeys(one["system"] for one in rows):
            costs, rounds = costs_of(rows, name, {f"{way}-{what}": what for what in SIZES})
            if len(costs) < 3:
                continue
            a, b = line([(SIZES[what], cost) for what, cost in costs.items()])
            on = {what: a + b * SIZES[what] for what in costs}
            off = {what: cost / on[what] - 1 for what, cost in costs.items()}
            bent = [what for what in off if abs(off[what]) > BENDS and aside(rounds[what], on[what])]
            told = {"us_each": a, "cpu_s_per_gib": b * GIB / 1e6, "off": off, "bent": bent}
            found.append({"system": name, "way": way, **told})
    return found


def crowds(rows):
    """Of each system, way and size, the cost of one by how many are at once, where one is that of the fewest."""
    found = []
    for way in WAYS:
        for what in CROWDS:
            for name in dict.fromkeys(one["system"] for one in rows):
                costs, rounds = costs_of(rows, name, {crowded(way, what, at_once): at_once for at_once in AT_ONCE})
                if len(costs) < 2:
                    continue
                first, least, bent = next(iter(costs.values())), float("inf"), []
                for at_once, cost in costs.items():
                    if cost > least * (1 + BENDS) and aside(rounds[at_once], least):
                        bent.append(at_once)
                    least = min(least, cost)
                times = {at_once: cost / first for at_once, cost in costs.items()}
                found.append({"system": name, "way": way, "size": what, "times": times, "bent": bent})
    return found


def costs_of(rows, name, wanted):
    """CPU us of each, in the median and in rounds, by what the titles `wanted` stand for, as far as they are there."""
    ours = {one["case"]: one for one in rows if one["system"] == name and not one["void"]}
    there = {key: ours[title] for title, key in wanted.items() if title in ours}
    costs = {key: one["cpu_us_per_req"] for key, one in there.items()}
    return costs, {key: one["rounds"]["cpu_us_per_req"] for key, one in there.items()}


def aside(rounds, value):
    """Whether all are on one side of it: else what is off may be by chance."""
    return min(rounds) > value or max(rounds) < value


def show(found):
    if found["lines"]:
        print(f"\nCPU of an object = a + b of its size; a share off that line (* is more than {BENDS:.0%})")
        print(f"{'':<22}{'a us':>9}{'b s/GiB':>9}" + "".join(f"{what:>9}" for what in SIZES))
    for one in found["lines"]:
        begin = f"{one['way']:<5}{one['system']:<17}{one['us_each']:>9,.1f}{one['cpu_s_per_gib']:>9.3f}"
        cells = {what: f"{off * 100:+.1f} %" for what, off in one["off"].items()}
        print(begin + marked(cells, SIZES, one["bent"]))
    if found["crowds"]:
        print(f"\nCPU of an object beside the first column's (* is {BENDS:.0%} dearer than with fewer at once)")
        print(f"{'':<31}" + "".join(f"{at_once:>9}" for at_once in AT_ONCE))
    for one in found["crowds"]:
        cells = {at_once: f"{times:.2f}" for at_once, times in one["times"].items()}
        print(f"{one['way']:<5}{one['size']:<9}{one['system']:<17}{marked(cells, AT_ONCE, one['bent'])}")


def marked(cells, columns, bent):
    return "".join(f"{cells.get(key, '-'):>8}{'*' if key in bent else ' '}" for key in columns)
