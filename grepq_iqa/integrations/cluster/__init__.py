"""Scoring very many pictures on many machines: a plan of fragments, and Ray to work through it.

``plan`` says what belongs together, ``reading`` fetches it, ``fragments`` scores one and writes it whole, ``run`` is
what `grepq score-many` does, ``storage`` is the way to files wherever they lie.
"""
