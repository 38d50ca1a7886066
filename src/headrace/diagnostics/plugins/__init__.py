"""Plugins that come with headrace, and the base classes of users' own (`distributed.diagnostics.plugin`)."""
