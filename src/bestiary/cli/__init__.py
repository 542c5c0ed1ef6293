"""The command line: reads what was typed, calls the public functions, prints. No logic lives here.

Standard output is the result, standard error is progress. Torch is imported only inside the commands
that need it.
"""
