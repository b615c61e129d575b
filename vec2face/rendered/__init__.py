"""The rendered stand-in for the faces: people who never were, from every side, in any light."""
