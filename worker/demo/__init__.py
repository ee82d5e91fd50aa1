"""The demo: a month of an LLM company's billing, played in a minute on real parts."""
