"""The hot path: one deterministic step per record, and all that a shard of a model is."""
