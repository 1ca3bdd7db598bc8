"""How good predictions were, once the truth is known: counts that add up and can be taken back, and samples of ids.

A quality is never averaged from averages: the counts of all workers and days are summed, and then it is computed.
Nothing here is imported when otelslo is.
"""
