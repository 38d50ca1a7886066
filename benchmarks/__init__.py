"""headrace and its peer side by side, alternately, in one run: `make bench`."""
