"""How settings are drawn, and which trials go on."""
