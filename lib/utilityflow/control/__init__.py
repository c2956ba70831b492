"""Control: the home and its lock, the file ledger, the run journal and the publication record."""
