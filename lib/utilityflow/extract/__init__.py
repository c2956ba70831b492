"""Sources that are asked: each extract lands a file under the landing root, from where the one path leads into bronze.

Where the next extract begins follows from the landed files alone (landed.py): one that was removed or rejected is asked for
again, and a process that was killed at any point leaves neither a gap nor a file twice.
"""
