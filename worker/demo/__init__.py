"""The demo: a month of an LLM company's billing, played in seconds on real parts."""
