"""The papers' results tables as data: what each would take to run, and what came out beside the published figures."""
