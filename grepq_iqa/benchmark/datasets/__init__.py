"""Readers of the public data sets, each from the files that the set's own site hands out.

A reader is a function ``read_<name>(root) -> LabeledImages``. Folder and file names are matched without regard to
case, since archives repacked on Windows and macOS change it, and the files may lie in ``root`` or one folder below it.
"""
