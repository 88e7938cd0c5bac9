"""The judge: one small state machine per model, every step of it a record of the control log."""
