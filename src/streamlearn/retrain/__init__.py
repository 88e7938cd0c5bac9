"""A full batch retrain by replay of the log, and the trial of what it made."""
