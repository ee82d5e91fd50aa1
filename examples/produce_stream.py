"""Send one usage event a call, onto the Redis stream that workers drain every second.

BROKER_URL=redis://127.0.0.1:6379/0 python examples/produce_stream.py
Needs nothing but the package `redis`; in any language: XADD billing:usage * event '{…}'.
"""

import datetime as dt
import json
import os
import uuid

from redis import Redis

redis = Redis.from_url(os.environ["BROKER_URL"])

for number in range(10):
    event = {
        "tenant_id": "acme",
        "metric": "input_tokens",
        "amount": str(100 + number),  # a decimal as text: no float ever touches a bill
        "at": dt.datetime.now(dt.UTC).isoformat(),
        "idempotency_key": str(uuid.uuid4()),  # sent twice, it counts once
    }
    # No MAXLEN: it would drop events that nobody has stored yet.
    redis.xadd("billing:usage", {"event": json.dumps(event)})

print("10 on the stream; those that can not be stored are in `billing rejected list`")
