"""What goes into the encoders: images, their patches and checks; tables of labels; paths."""
