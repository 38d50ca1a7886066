"""Datasets: named collections, futures and values that outlive the client that published them."""
