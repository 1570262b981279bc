"""Whether what is printed is what a page shows."""

import json
import re


def resembles(block, got):
    """Whether `got` ends as the block shows it."""
    if block.language == "json":
        shown, printed = documents(block.text), documents(got)
        return len(printed) >= len(shown) > 0 and all(map(alike, shown, printed[-len(shown):]))
    lines = iter(got.splitlines())
    shown = [line for line in block.lines if line.strip(" …")]
    return bool(shown) and all(any(begins(line, other) for other in lines) for line in shown)


def documents(text):
    """The JSON objects in it."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while (at := text.find("{", at)) >= 0:
        try:
            document, at = decoder.raw_decode(text, at)
            found.append(document)
        except json.JSONDecodeError:
            at += 1
    return found


def alike(shown, got):
    """Whether one is shown for the other: what has digits in it is another each time."""
    if isinstance(shown, dict):
        return isinstance(got, dict) and shown.keys() == got.keys() and all(alike(shown[k], got[k]) for k in shown)
    if isinstance(shown, list):
        return isinstance(got, list) and bool(shown) == bool(got) and all(map(alike, shown, got))
    if isinstance(shown, str) and re.search(r"[\d…]", shown):
        return isinstance(got, str)
    return shown == got


def begins(shown, got):
    """Whether the one line begins with the other's words, digits within a word aside; `…` is anything."""
    words = ([word if word.isdigit() else re.sub(r"\d+", "0", word) for word in line.split()] for line in (shown, got))
    shown, got = words
    return len(got) >= len(shown) and all("…" in word or word == other for word, other in zip(shown, got))
