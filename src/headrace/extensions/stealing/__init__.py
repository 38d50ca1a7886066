"""Work stealing: idle workers are given what busy ones have not started."""
