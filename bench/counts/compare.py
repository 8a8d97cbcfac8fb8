"""Compares what gungraun counted with a baseline: a line each, name and count."""
import json
import os
import sys

LIMIT = 0.03


def counted(path):
    """Instructions by the name of the benchmark."""
    found = {}
    decoder = json.JSONDecoder()
    text = open(path).read()
    at = text.find("{")
    while at >= 0:
        value, at = decoder.raw_decode(text, at)
        found[value["function_name"]] = instructions(value)
        at = text.find("{", at)
    return found


def instructions(value):
    """The first count of `Ir` in a summary, wherever it is."""
    if isinstance(value, dict):
        if "Ir" in value:
            return number(value["Ir"])
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            count = instructions(part)
            if count is not None:
                return count
    return None


def number(value):
    """The first integer of a metric, however it is wrapped."""
    if isinstance(value, (int, float)):
        return int(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    for part in parts:
        count = number(part)
        if count is not None:
            return count
    return None


def main():
    out, baseline, word = sys.argv[1:4]
    found = counted(out)
    if not found or None in found.values():
        sys.exit(f"counts: nothing was counted, see {out}: {found}")
    if word == "--update":
        with open(baseline, "w") as file:
            file.writelines(f"{name} {count}\n" for name, count in sorted(found.items()))
        print(f"counts: kept in {baseline}")
        return
    if not os.path.exists(baseline):
        print(f"counts: no {baseline}; bench/counts/check.sh --update makes it")
        known = {}
    else:
        known = dict(line.split() for line in open(baseline))
    worse = 0
    for name, count in sorted(found.items()):
        before = int(known.get(name, count))
        change = count / before - 1
        is_far = abs(change) > LIMIT
        worse += is_far
        verdict = f"MORE THAN {LIMIT:.0%}" if is_far else ""
        print(f"  {name:12} {count:9} instructions, {change:+7.2%} {verdict}")
    if worse:
        sys.exit(
            f"counts: {worse} hot paths changed; when that is meant, say so in the commit and run "
            "bench/counts/check.sh --update"
        )


main()
