"""Full-reference similarity between distorted copies of one photograph."""
