"""One typed, validated view of ``params.yaml``."""
