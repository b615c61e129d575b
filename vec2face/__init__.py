"""Vec2Face: vectors to faces, faces to recognisers, recognisers to the paper's tables."""
