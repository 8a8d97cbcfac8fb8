"""What schemathesis does not know: a body in TOML is sent as it is."""

import json

import schemathesis


@schemathesis.serializer("application/toml")
def toml(ctx, value):
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode("utf-8", "surrogatepass")
