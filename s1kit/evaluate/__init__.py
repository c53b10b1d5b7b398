"""Questions x settings x repeats, decoded, graded, counted and drawn. Stage `evaluate` and its `report`."""
