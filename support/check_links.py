#!/usr/bin/env python3
"""Fails where a Markdown page of the tree links to a file that is not there."""

import os
import re
import subprocess
import sys

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def main():
    pages = subprocess.run(["git", "ls-files", "*.md"], capture_output=True, text=True, check=True).stdout.split()
    broken = [
        f"{page}:{number}: no such file: {target}"
        for page in pages
        for number, line in enumerate(open(page, encoding="utf-8"), 1)
        for target in LINK.findall(line)
        if "://" not in target and not os.path.exists(os.path.join(os.path.dirname(page), target))
    ]
    print("\n".join(broken) or f"{len(pages)} pages, every link leads somewhere")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
