"""The rendered stand-in for the faces: invented people, from every side and in any light."""
