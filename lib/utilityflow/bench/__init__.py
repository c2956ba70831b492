"""The measurements, each one command; each prints its conditions and can be repeated."""
