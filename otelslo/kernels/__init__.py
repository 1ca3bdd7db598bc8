"""Compiled code over shared words: numbers only, no strings, no dicts, no exceptions, no I/O.

Importing this package compiles nothing and does not import numba; `otelslo.kernels.ring.compile_kernels()` does.
"""
