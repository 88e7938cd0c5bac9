"""What every test shares: property tests are not timed, since the machine may be busy with something else."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("streamlearn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("streamlearn")
