"""Training: reproduces the weights. Run as ``python -m grepq_iqa.training``; nothing at run time imports it.

Needs the extra: ``pip install "grepq-iqa[train]"``.
"""
