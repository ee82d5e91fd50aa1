"""Send usage from Python: gathered in chunks and confirmed, or one quick call an event.

`UsageProducer` keeps each event until a worker has answered for it. `StreamProducer` hands each to
a Redis stream and returns. Both stamp what they take with an instant and a key, so that sending it
again is harmless.
"""

from tasks.producer.buffered import BufferFull, EventsLeft, ProducerClosed, UsageProducer
from tasks.producer.courier import NoAnswers
from tasks.producer.limits import Limits
from tasks.producer.line import InvalidEvent
from tasks.producer.outcome import RefusedEvent, Statistics
from tasks.producer.stream import StreamProducer

__all__ = [
    "BufferFull",
    "EventsLeft",
    "InvalidEvent",
    "Limits",
    "NoAnswers",
    "ProducerClosed",
    "RefusedEvent",
    "Statistics",
    "StreamProducer",
    "UsageProducer",
]
