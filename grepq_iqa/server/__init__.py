"""An HTTP service and a page: scores for programs, labeling and fitting for people. Needs ``grepq-iqa[serve]``."""
