"""Damaged inputs by the thousand: ``python -m tests.fuzz --count 20000`` (see ``__main__``)."""
