"""UtilityFlow: the Spark and Delta Lake job suite that brings an electric utility's six source systems into one lakehouse."""

__version__ = "0.1.0"
