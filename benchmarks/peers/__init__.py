"""Frontrow beside its peers: the same model, the same requests, the same machine, one run (README.md)."""
