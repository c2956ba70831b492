"""Quality: the rules of a contract as pure columns, and their evaluation in the same pass as the write."""
