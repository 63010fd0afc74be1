"""``make gpu-check``: what of the CUDA path works on the GPU at hand, in ten minutes.

It drives ``runner`` as a user would, in a store of its own, and reads the records. Each check says
``ok``, ``failed`` or ``not possible here``; those that the time did not allow are named.
"""
