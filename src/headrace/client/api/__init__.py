"""The methods of `Client`, grouped by what they are about. Each group is a mixin; `headrace.client.client` joins them."""
