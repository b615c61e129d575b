"""Vec2Face: vectors to faces, faces to recognizers, recognizers to the paper's tables."""
