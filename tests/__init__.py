"""The tests are a package, so that helpers have one name wherever they are imported: `from tests.gate import Gate`."""
