"""Send usage events with a plain Celery client: none of this project's code is needed.

BROKER_URL=redis://127.0.0.1:6379/0 python examples/produce.py
"""

import datetime as dt
import os

from celery import Celery

broker = os.environ["BROKER_URL"]
app = Celery(broker=broker, backend=broker)

now = dt.datetime.now(dt.UTC).isoformat()
events = [
    {
        "tenant_id": "acme",
        "metric": "input_tokens",
        "amount": str(100 + number),  # a decimal as text: no float ever touches a bill
        "at": now,
        "idempotency_key": f"example-{now}-{number}",  # the same key is the same event
        "metadata": {"model": "atlas-mini"},
    }
    for number in range(10)
]
sent = app.send_task("billing.record_usage", kwargs={"events": events}, queue="usage")

# The answer has a verdict for each event. Keep the events until it is there, send them again
# otherwise: an event that was taken before is a "duplicate" and counts once.
answer = sent.get(timeout=30)
print(answer["accepted"], "accepted,", answer["duplicate"], "duplicate,", answer["refused"])
