"""The checks of ``verify``: small named functions from frames to offenders, each with the invariant that it holds."""
