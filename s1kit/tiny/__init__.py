"""A world small enough for one core: questions, a teacher, and a base model that play the parts of real ones.

The questions walk a list item by item, so the number of thinking tokens that a right answer needs is known. The base
checkpoint in `base/` is an ordinary Hugging Face folder; nothing outside this package knows that it is tiny.
"""
