"""E and G over pictures of any size, tile by tile, in memory that is asked for."""
