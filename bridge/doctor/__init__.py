"""Is the environment sound, and what is this checkpoint?

A check is a generator of `Finding`s (`findings.py`). The quick ones run in this process; those that import a framework
or read weights run in processes of their own (`processes.py`), where a crash is one more finding. `examination.py` runs
them all, and `report.py` prints what they found. A checkpoint is described by `checkpoint_summary.py`.
"""
