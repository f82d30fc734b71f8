#!/usr/bin/env python3
"""Looks for secrets and contact details in the log lines of the whole suite.

    TEST_LOGS=$folder cargo test --workspace && tests/acceptance/log_scan.py $folder

Every file in the folder is read line by line. Files named `tests-*` were written without the net that takes secrets out
of log lines, so they show what the code logs; files of the real binary were written through it, so a hole that it left is a find
as well. What is looked for is written down here anew, and not taken from the net: the two must not share a mistake.

Ends with status 1 when something was found (shown masked, with its place), when there are fewer lines than a suite
writes, and when this search itself no longer finds what is planted for it.
"""

import json
import pathlib
import re
import sys

# A suite that logs less than this was not logged.
TEST_LINES_MIN = 3_000
PROCESS_LINES_MIN = 300
FINDS_SHOWN_MAX = 40
LINE_CHARS_MAX = 1_000_000

CLASSES = {
    "e-mail address": r"[\w.+'-]+(?:@|%40)[\w-]+(?:\.[\w-]+)*\.[a-zA-Z]{2,}",
    "telephone number": r"(?<![\w.+-])(?:\+\d(?:[ ().-]{0,2}\d){7,14}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}|0[35789]\d{8})(?![\w-])",
    "API key": r"mpk_[A-Za-z0-9]{9,}",
    "webhook secret": r"whsec_[A-Za-z0-9+/=_-]{4,}",
    "credential of HTTP": r"(?i)\b(?:bearer|basic)\s+[\w.~+/=-]{8,}",
    "password in an address": r"[a-zA-Z][\w+.-]*://[^\s/:@\"']*:[^\s/@\"']+@",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "key of 32 bytes": r"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])",
    "token of JWT's form": r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*",
    "value of something named like a secret":
        r"(?i)\b[\w.-]*(?:passw(?:or)?d|secret|api[_-]?key|authorization|cookie|private[_-]?key)[\w.-]*"
        r"\\?[\"']?\s*[:=]\s*\\?[\"']?(?!\[redacted\]|\*\*\*|null\b|None\b|true\b|false\b)[^\s\"'\\,;})]{3,}",
    "secret that tests use": r"sandbox-token|collectors-token|hunter2|correct horse",
    "hole that the net left": r"\[redacted\]",
}
PATTERNS = {name: re.compile(pattern) for name, pattern in CLASSES.items()}

# One of each class, as a careless line would hold it.
PLANTED = {
    "e-mail address": '{"message":"told amycodes@mail.example.net"}',
    "telephone number": '{"contact.phone":"+1 202 555 0123"}',
    "API key": '{"message":"refused mpk_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM"}',
    "webhook secret": '{"message":"signed with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}',
    "credential of HTTP": '{"headers":"{\\"x\\": \\"Bearer abcdefgh.ijkl\\"}"}',
    "password in an address": '{"error":"cannot connect to postgres://pond:hunter3@db:5432/pond"}',
    "private key": '{"message":"-----BEGIN EC PRIVATE KEY-----\\nMHcC"}',
    "key of 32 bytes": '{"message":"k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}',
    "token of JWT's form": '{"message":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"}',
    "value of something named like a secret": '{"message":"Login { password: \\"abcdef\\" }"}',
    "secret that tests use": '{"token":"sandbox-token"}',
    "hole that the net left": '{"message":"told [redacted]"}',
}
# What every log is full of.
HARMLESS = [
    '{"timestamp":"2026-11-22T07:49:25.123456Z","level":"INFO","message":"answered","duration_ms":0.0901234567,'
    '"spans":[{"request.id":"019a2f3c-7c1e-7b55-8c13-0901234567ab","trace.id":"4bf92f3577b34da6a3ce929d0e0e4736",'
    '"http.path":"/api/v1/jobs/job_01kagqthv7e9hb7q4rj0a3mz5c","partner.id":"partner_01kagqthv7e9hb7q4rj0a3mz5c"}]}',
    '{"message":"tick","schedule":"prune","tick":"2026-11-20T21:00:00+00:00","url":"http://127.0.0.1:54329"}',
    '{"message":"came too late","lease.token":7,"rows":1234567890,"prefix":"mpk_01234567"}',
]


def finds(line, with_net):
    """The classes of which there is one in the line, each with its place."""
    # Escapes of JSON would hide the beginnings of words.
    texts = [line, re.sub(r"\\[bfnrt]", " ", line)]
    for name, pattern in PATTERNS.items():
        if name == "hole that the net left" and not with_net:
            continue
        for text in texts:
            found = pattern.search(text)
            if found:
                yield name, text, found
                break


def self_test():
    for name, line in PLANTED.items():
        if name not in [found for found, _, _ in finds(line, True)]:
            sys.exit(f"the search is blind: it does not find its own {name}")
    for line in HARMLESS:
        for name, _, found in finds(line, True):
            sys.exit(f"the search cries wolf: it takes {found.group()!r} for a {name}")


def shown(text, found):
    """Where it is, without saying it again."""
    before = text[max(0, found.start() - 80) : found.start()]
    after = text[found.end() : found.end() + 40]
    return f"…{before}<{len(found.group())} characters>{after}…"


def scan(folder):
    lines = {"tests": 0, "processes": 0}
    found_in = []
    broken = 0
    for path in sorted(folder.iterdir()):
        kind = "tests" if path.name.startswith("tests-") else "processes"
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                lines[kind] += 1
                if len(line) > LINE_CHARS_MAX:
                    found_in.append((path.name, number, "line without end", ""))
                if kind == "tests" and not is_json(line):
                    broken += 1
                for name, text, found in finds(line, kind == "processes"):
                    found_in.append((path.name, number, name, shown(text, found)))
    return lines, broken, found_in


def is_json(line):
    try:
        json.loads(line)
        return True
    except ValueError:
        return False


def main():
    if len(sys.argv) != 2 or not pathlib.Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    self_test()
    lines, broken, found_in = scan(pathlib.Path(sys.argv[1]))
    for name, number, what, place in found_in[:FINDS_SHOWN_MAX]:
        print(f"{name}:{number}: {what}: {place}", file=sys.stderr)
    if found_in:
        sys.exit(f"{len(found_in)} secrets or contact details in log lines")
    if broken:
        sys.exit(f"{broken} lines of tests are no JSON")
    if lines["tests"] < TEST_LINES_MIN or lines["processes"] < PROCESS_LINES_MIN:
        sys.exit(f"suspiciously few lines: {lines}; was the suite run with TEST_LOGS?")
    print(f"no secret and no contact detail in {lines['tests']} lines of tests and {lines['processes']} of processes")


if __name__ == "__main__":
    main()
