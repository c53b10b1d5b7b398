"""Stage `evaluate`: questions asked of an engine under many settings, graded, written as generations."""
