"""The live file: cumulative counters of all workers of a host, mapped into each of them.

`geometry` says how large everything is, `memory` maps and grows the file, `directory` names rows, histograms and
tracks, `blocks` gives a worker its block and settles a dead one's, `reader` reads without the compiler, and `live`
opens, makes, sets aside and rebuilds the file.
"""
