"""Face recognizers: networks, files, training, features."""
