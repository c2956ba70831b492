"""What looks like a secret written out. Deployment files lie in repositories: they may name secrets, never hold them."""

from __future__ import annotations

import re
from typing import Any

# the values of keys with such names are references, or nothing
_KEY = re.compile(r"(?i)(password|passwd|secret|token|access_?key|account_?key|sas|connection_?string|credential)s?$")
_SPARK_KEY = re.compile(r"(?i)\b(?:account\.key|secret\.key|access\.key|sas\.fixed\.token|oauth2?\.client\.secret)\b")
_REFERENCE = re.compile(r"\$\{var\.\w+\}|\{\{secrets/[\w.-]+/[\w.-]+\}\}|@pipeline\(\)\.parameters\.\w+")
# what secrets look like, wherever they stand
_FORMS = {
    "a Databricks token": re.compile(r"\bdapi[0-9a-f]{32}"),
    "an account key": re.compile(r"(?i)\b(?:AccountKey|SharedAccessKey|SharedAccessSignature)\s*="),
    "a shared access signature": re.compile(r"(?i)[?&]sig=[\w%/+=-]{16,}"),
    "a password in a connection string": re.compile(r"(?i)\b(?:pwd|password)\s*=\s*[^;\s]+"),
    "a user and password in an address": re.compile(r"\w+://[^/\s:@]+:[^/\s@]+@"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a web token": re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}\."),
    "an AWS key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a client secret": re.compile(r"\b[\w~.-]{3}8Q~[\w~.-]{31,34}"),
    "a key of 32 bytes or more in base64": re.compile(r"(?<![\w/+])[A-Za-z0-9+/]{42,88}={1,2}(?!=)"),
    "a bearer token": re.compile(r"(?i)\bbearer\s+[\w.~+/-]{16,}"),
}  # fmt: skip


def written_out(text: str) -> str:
    """What kind of secret a text seems to hold (never the secret), or an empty text."""
    return next((f"looks like {what}" for what, form in _FORMS.items() if form.search(text)), "")


def named_secret(key: str, value: Any) -> str:
    """Why the value of a key is suspicious by the key's name: a text that is no reference. Empty when it is not.

    :param key: the whole key, ``a.b[0].c``.
    """
    named = _KEY.search(re.sub(r"(\[\d+\])+$", "", key).rpartition(".")[2]) or _SPARK_KEY.search(key)
    if named and isinstance(value, str) and value and not _REFERENCE.fullmatch(value):
        return "holds a text under the name of a secret"
    return ""
