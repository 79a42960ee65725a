"""Training by recipe, of models such as those shipped; nothing at run time imports it.

Run as ``python -m grepq_iqa.training``.

Needs the extra: ``pip install "grepq-iqa[train]"``.
"""
