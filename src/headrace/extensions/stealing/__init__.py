"""Work stealing: idle workers are given tasks that busy ones have not started."""
