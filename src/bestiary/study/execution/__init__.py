"""How a study is worked off: pieces of work, processes and machines, a journal that survives them."""
