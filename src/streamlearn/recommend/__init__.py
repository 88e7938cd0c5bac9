"""Recommending: candidates from several sources, their ranking, slates. A pure library: no clock, no log, no store."""
