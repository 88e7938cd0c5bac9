"""HTTP: events in, predictions out. It never learns, and a prediction never waits for the log."""
