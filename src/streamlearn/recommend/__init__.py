"""Recommendations: what a policy that chooses items is worth, and how good its lists are."""
