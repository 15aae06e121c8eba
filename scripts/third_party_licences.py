#!/usr/bin/env python3
"""Prints the licence texts of the crates that the binary links, from `cargo metadata` on standard input.

Uses the standard library only. A crate without a text in its sources is named with its licence's identifier.
"""
import json
import pathlib
import sys

ROOT = "gptjc"
NAMES = ("license", "licence", "copying", "notice", "unlicense", "copyright")


def linked(metadata):
    """Ids of the packages that ROOT needs to be built, without those for tests."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    start = next(p["id"] for p in metadata["packages"] if p["name"] == ROOT and p["source"] is None)
    found, todo = set(), [start]
    while todo:
        one = todo.pop()
        if one in found:
            continue
        found.add(one)
        for dependency in nodes[one]["deps"]:
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    return found


def texts(package):
    directory = pathlib.Path(package["manifest_path"]).parent
    for path in sorted(directory.iterdir()):
        if path.is_file() and path.name.lower().startswith(NAMES):
            yield path.name, path.read_text(encoding="utf-8", errors="replace").strip()


def main():
    metadata = json.load(sys.stdin)
    wanted = linked(metadata)
    packages = [p for p in metadata["packages"] if p["id"] in wanted and p["source"] is not None]
    packages.sort(key=lambda p: (p["name"], p["version"]))
    seen = {}
    print(f"{len(packages)} crates are part of the gptjc binary or of what builds it.\n")
    for package in packages:
        title = f"{package['name']} {package['version']}: {package['license'] or package['license_file']}"
        print(title + "\n" + "=" * len(title))
        found = False
        for name, text in texts(package):
            found = True
            if text in seen:
                print(f"{name}: as for {seen[text]}")
            else:
                seen[text] = f"{package['name']} {package['version']}, {name}"
                print(f"--- {name}\n{text}")
        if not found:
            print("(no text in its sources)")
        print()


if __name__ == "__main__":
    main()
