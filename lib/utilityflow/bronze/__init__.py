"""Bronze: what arrived, once, as it was. Feeds, the inspection of files, and readers that number every record."""
