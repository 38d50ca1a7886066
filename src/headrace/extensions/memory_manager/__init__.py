"""The active memory manager: copies that are not needed are dropped, and those that are needed made, now and then."""
