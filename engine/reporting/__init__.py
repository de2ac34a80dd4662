"""Reports: one page for a run, with its figures, and a methods paragraph to cite it by."""
