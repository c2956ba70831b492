"""Deployment files for Databricks, Synapse and Azure Data Factory, rendered from the declared steps and checked offline."""
