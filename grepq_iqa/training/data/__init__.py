"""Training data: photographs, distortions, and the data sets made of both."""
