"""People who do not exist: identity vectors, perturbed vectors, images of them."""
