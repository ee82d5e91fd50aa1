"""Files of usage: read in a stream, mapped to events, recorded in chunks."""
