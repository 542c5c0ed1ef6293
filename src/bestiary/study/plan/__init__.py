"""What a study is: arms and their spaces, budgets, draws; files and presets."""
