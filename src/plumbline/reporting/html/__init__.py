"""The results as one HTML file that needs no network."""
