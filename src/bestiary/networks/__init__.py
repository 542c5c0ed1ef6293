"""Networks: no costs in here."""
