"""Send usage events from any language that can LPUSH to Redis: the message, spelled out.

This is Celery's message protocol, version 2, as JSON. BROKER_URL=… python examples/produce_plain.py
"""

import base64
import datetime as dt
import json
import os
import uuid

from redis import Redis

task_id = str(uuid.uuid4())
arguments = {
    "events": [
        {
            "tenant_id": "acme",
            "metric": "output_tokens",
            "amount": "42",
            "at": dt.datetime.now(dt.UTC).isoformat(),
            "idempotency_key": f"plain-{task_id}",
        }
    ]
}
body = json.dumps([[], arguments, {"callbacks": None, "errbacks": None, "chain": None}])
message = {
    "body": base64.b64encode(body.encode()).decode(),
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "headers": {"lang": "any", "task": "billing.record_usage", "id": task_id, "root_id": task_id},
    "properties": {
        "correlation_id": task_id,
        "delivery_info": {"exchange": "", "routing_key": "usage"},
        "delivery_mode": 2,
        "delivery_tag": str(uuid.uuid4()),
        "body_encoding": "base64",
    },
}
redis = Redis.from_url(os.environ["BROKER_URL"])
redis.lpush("usage", json.dumps(message))

# Celery keeps the answer under this key; wait for it, and send again if it does not come.
for _ in range(300):
    answer = redis.get(f"celery-task-meta-{task_id}")
    if answer and json.loads(answer)["status"] in ("SUCCESS", "FAILURE"):
        print(json.loads(answer)["result"])
        break
    redis.blpop([f"no-such-key-{task_id}"], timeout=0.1)
else:
    raise SystemExit("no answer after 30 s: send the same events again")
