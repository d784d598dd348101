"""The requirements by number, the marker that links a test to them, and the table made of both in tests/README.md.

`python -m tests.tools.requirements` writes the table anew; test_requirements.py fails while it is out of date.
"""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
README = TESTS / "README.md"
START, END = "<!-- table of requirements: start -->", "<!-- table of requirements: end -->"

# The threat that each requirement protects against or, from "11 …" on, the limit that holds.
REQUIREMENTS = {
    "1.1": "a login started in one browser is finished in another",
    "1.2": "a valid `state` that belongs to another browser",
    "1.3": "missing or empty `state`, cookie or cache",
    "1.4": "a `state` used twice, too late, or one of too many",
    "1.5": "a code sent to QQ twice",
    "1.6": "a code stolen before its owner uses it (a small risk remains)",
    "1.7": "floods of made-up codes",
    "1.8": "a `state` of another provider (there is only one)",
    "1.9": "a cookie planted by an attacker",
    "1.10": "pages and API on two origins",
    "1.11": "the user cancels, or QQ reports an error",
    "1.12": "a token or an openid sent instead of a code",
    "2.1": "`next` leads to another site",
    "2.2": "`next` encoded once, twice or partly",
    "2.3": "a changed target in the page's address",
    "2.4": "`next` is huge or malformed",
    "2.5": "a header injected through `next`",
    "3.1": "a token issued to another application",
    "3.2": "a malformed openid",
    "3.3": "different openids that a database compares as equal",
    "3.4": "an identity built on data that can change",
    "3.5": "an answer that can be read in two ways",
    "3.6": "a token that changes the next request",
    "3.7": "more data requested or kept than needed",
    "4.1": "a bind token used in another browser",
    "4.2": "a bind token used again",
    "4.3": "an expired bind token",
    "4.4": "one signed value used in place of another",
    "4.5": "the openid inside the bind token is readable",
    "4.6": "a value read before its signature is verified",
    "4.7": "key rotation",
    "4.8": "clocks that differ between servers",
    "5.1": "a forged JWT",
    "5.2": "a JWT key that is shared, short or a sample",
    "5.3": "a JWT that never expires",
    "5.4": "a JWT that survives a password change",
    "5.5": "a disabled or deleted user",
    "5.6": "personal data in a JWT",
    "5.7": "a malformed `Authorization` header",
    "5.8": "a login that the owner cannot notice",
    "6.1": "password guessing",
    "6.2": "one account counted under several names",
    "6.3": "SMS code guessing",
    "6.4": "SMS flooding",
    "6.5": "an image code used again",
    "6.6": "finding out who has an account",
    "6.7": "passwords that are altered, huge or common",
    "6.8": "extra fields in a form",
    "6.9": "a stranger locks the owner out",
    "7.1": "an account registered on someone else's number",
    "7.2": "a stranger stays logged in to a recovered account",
    "7.3": "an openid that is already bound",
    "7.4": "a second QQ on one account (allowed)",
    "7.5": "two binds at the same time",
    "7.6": "a deleted user",
    "7.7": "unbinding that locks the owner out (only the owner's password reset unbinds)",
    "7.8": "a new account with guessable credentials",
    "7.9": "staff accounts reached through QQ or SMS",
    "7.10": "a bind page inside a frame",
    "8.1": "QQ hangs or answers byte by byte",
    "8.2": "a huge answer",
    "8.3": "a redirect",
    "8.4": "missing TLS verification, proxies from the environment",
    "8.5": "an unreadable answer",
    "8.6": "endless retries",
    "8.7": "a slow QQ blocks the whole shop",
    "8.8": "the app key in an exception",
    "8.9": "QQ's text passed on to the user",
    "8.10": "a transaction kept open during the call",
    "9.1": "a bind request from another site's page",
    "9.2": "CORS that allows too much",
    "9.3": "a parameter given twice",
    "9.4": "values of unexpected types",
    "9.5": "large bodies, other encodings, long headers",
    "9.6": "a forged client address",
    "9.7": "counters with race conditions",
    "9.8": "the cache that holds the counters is down",
    "9.9": "a forged `Host`",
    "9.10": "answers kept by caches",
    "9.11": "missing security headers",
    "9.12": "other HTTP methods",
    "9.13": "a GET that changes state is prefetched",
    "9.14": "debug mode, admin, deployment settings",
    "10.1": "secrets in the code, or missing secrets",
    "10.2": "secrets in logs and error reports",
    "10.3": "forged log lines",
    "10.4": "too little recorded to investigate",
    "10.5": "a changed audit record (storage is up to the shop; the events are tested)",
    "10.6": "more data stored than needed",
    "10.7": "phone numbers shown in full",
    "10.8": "data kept forever",
    "10.9": "deletion on request (export is up to the shop)",
    "10.10": "recovery after a breach",
    "10.11": "dependencies with known vulnerabilities",
    "11 start": "limit: 60 a minute per address, ten flows per browser",
    "11 callback": "limit: 30 a minute per address",
    "11 bind, failed": "limit: 5 per account, 10 a minute per address, 5 per login",
    "11 bind, all": "limit: 30 a minute per address, bodies of 16 KiB",
    "11 SMS send": "limit: per number, per address, for the whole shop",
    "11 SMS check": "limit: 5 per code, 30 an hour per address",
}


def requirement(*rows: str) -> pytest.MarkDecorator:
    """Mark a test (or one of its parameters) as a guard of these requirements."""
    unknown = set(rows) - REQUIREMENTS.keys()
    assert not unknown, f"unknown requirements: {sorted(unknown)}"
    return pytest.mark.requirement(*rows)


@cache
def guarding_tests():
    """Return {requirement: [names of its tests]}, found in the source: tests that need a server count too."""
    found = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                parts = [part for decorator in node.decorator_list for part in ast.walk(decorator)]
                markers = [part for part in parts if getattr(getattr(part, "func", None), "id", "") == "requirement"]
                for row in {row.value for marker in markers for row in marker.args}:
                    found[row].append(f"{path.relative_to(TESTS)}::{node.name}")
    return dict(found)


def readme_with_table():
    lines = ["| row | protects against | tests |", "|---|---|---|"]
    for row, text in REQUIREMENTS.items():
        tests = "<br>".join(f"`{name}`" for name in guarding_tests().get(row, []))
        lines.append(f"| {row} | {text} | {tests} |")
    before, _, rest = README.read_text("utf-8").partition(START)
    return "\n".join([f"{before}{START}", *lines, f"{END}{rest.partition(END)[2]}"])


if __name__ == "__main__":
    README.write_text(readme_with_table(), "utf-8")
