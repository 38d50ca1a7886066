"""Help for tests of programs that run on headrace: clusters, fixtures, functions (`distributed.utils_test`)."""
