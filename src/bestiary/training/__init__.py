"""The one loop, and what it needs: budgets, devices, averages, checkpoints."""
