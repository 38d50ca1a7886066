"""Plain pages for people: views make HTML of a scheduler's records, `page_frame` puts it into a document.

No scripts, nothing from other hosts, and links relative to the page, so that they hold behind proxies.
"""
