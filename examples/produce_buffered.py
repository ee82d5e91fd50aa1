"""Send usage events through the buffered producer, which keeps each until a worker has answered.

BROKER_URL=redis://127.0.0.1:6379/0 python examples/produce_buffered.py [SPILL_FOLDER]
"""

import os
import sys
from pathlib import Path

from tasks.producer import RefusedEvent, UsageProducer


def tell(refused: RefusedEvent) -> None:
    print("refused:", refused.field, refused.reason)


spill = Path(sys.argv[1]) if sys.argv[1:] else None  # with it, not even our own death loses events

with UsageProducer(os.environ["BROKER_URL"], on_refused=tell, spill=spill) as producer:
    for number in range(2_500):
        # What is not given is stamped now: `at`, and an idempotency key that makes resending exact.
        producer.record(
            tenant_id="acme",
            metric="input_tokens",
            amount=100 + number,
            metadata={"model": "atlas-mini"},
        )

# Leaving the block has waited for every answer.
print(producer.statistics.accepted, "accepted,", producer.statistics.pending, "without an answer")
