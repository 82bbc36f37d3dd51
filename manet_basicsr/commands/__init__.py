"""The commands: only here are flags named."""
