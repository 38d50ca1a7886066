"""Methods of `Client`, grouped by what they are about. Each group is a mixin that `headrace.client.client` joins."""
