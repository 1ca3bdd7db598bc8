"""Whether what a model is fed today still looks like what it was made for: baselines, their bins, and a verdict.

Values become counts in bins that the baseline fixed once and for all, so that the counts of all workers add up. What
decides knows only counts. Nothing here is imported when otelslo is; `bins` and `baseline` load numpy.
"""
