"""Is everything there and well? Each finding is ok, a warning or a failure, with what to do."""
