"""Pieces of HTML and of text by which notebooks show things to people, without a page or a server."""
