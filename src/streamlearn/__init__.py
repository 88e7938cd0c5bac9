"""Online learning as a service: models that learn from every event, notice drift, and prove their successors."""

__version__ = "0.1.0"
