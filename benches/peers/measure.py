"""What a process and all its children cost, as /proc says: CPU seconds and resident memory."""

import os
import pathlib
import time

TICKS = os.sysconf("SC_CLK_TCK")
PROC = pathlib.Path("/proc")


def family(pid):
    """`pid` and all below it."""
    children = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (stat := fields(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def fields(pid):
    """Of /proc/PID/stat, what comes after the name, which may hold anything: state, parent, …"""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def cpu(pid):
    """CPU seconds so far, user's and system's, of all threads; to a hundredth."""
    spent = 0
    for one in family(pid):
        if stat := fields(one):
            spent += int(stat[11]) + int(stat[12])
    return spent / TICKS


def resident(pid):
    """RSS in bytes, summed: what processes share counts once for each."""
    return memory(pid, "VmRSS:")


def peak(pid):
    """The most that each was ever resident, in bytes, summed."""
    return memory(pid, "VmHWM:")


def memory(pid, field):
    total = 0
    for one in family(pid):
        try:
            status = (PROC / str(one) / "status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith(field))
    return total


def busy(seconds):
    """The share of all processors that is in use, from 0 to 1."""

    def now():
        spent = [int(ticks) for ticks in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]
        return sum(spent), spent[3] + spent[4]  # idle, and waiting for a disk

    total, idle = now()
    time.sleep(seconds)
    later, still = now()
    return 1 - (still - idle) / max(1, later - total)


def machine():
    """What the figures were taken on."""
    models = [line for line in (PROC / "cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else os.uname().machine
    return {"cpus": len(os.sched_getaffinity(0)), "model": model, "kernel": os.uname().release}
