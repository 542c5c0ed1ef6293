"""What a study found: statistics, verdict, tables."""
