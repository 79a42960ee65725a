"""From the bytes of any picture file to sRGB pixels: what begins a file decides which module reads it."""
