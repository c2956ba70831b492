"""Gold: the Kimball star. Dimensions are kept by the history engine, facts look up the version valid at their time."""
