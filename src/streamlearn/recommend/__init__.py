"""Recommendations: where candidates come from, how they are ranked, and the slate that is shown. A pure library."""
