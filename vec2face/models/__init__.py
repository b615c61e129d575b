"""Networks and their files: generator, discriminator, recognizers, and recognizers from ONNX."""
