"""The classification networks whose features the perceptual metrics compare.

Pure functions of a dict tree of arrays, NHWC. They never change and are never trained, so they
are functions and not Linen modules.
"""
