"""Generated rooms: scenes, renderer and data module."""
