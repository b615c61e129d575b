"""Estimators of face attributes: differentiable networks with named outputs."""
