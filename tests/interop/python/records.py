"""Records as the interop suite exchanges them: JSON lines, bytes in hexadecimal, null as null."""

import json
import sys


def read():
    """The records on standard input: (key, value, headers)."""
    for line in sys.stdin:
        record = json.loads(line)
        headers = [(name, _bytes(value)) for name, value in record["headers"]]
        yield _bytes(record["key"]), _bytes(record["value"]), headers


def write(topic, key, value, headers):
    """One record to standard output."""
    record = {
        "topic": topic,
        "key": _hex(key),
        "value": _hex(value),
        "headers": [[name, _hex(content)] for name, content in headers or []],
    }
    print(json.dumps(record), flush=True)


def _bytes(text):
    return None if text is None else bytes.fromhex(text)


def _hex(content):
    return None if content is None else content.hex()
