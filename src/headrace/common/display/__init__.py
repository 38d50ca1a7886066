"""How things are shown to people in notebooks: pieces of HTML, without a page or a server."""
