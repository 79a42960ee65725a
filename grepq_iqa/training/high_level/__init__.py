"""Training of high-level encoders: CLIP's tower, or the parts of the compact model."""
