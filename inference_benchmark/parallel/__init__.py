"""One model on several GPUs: what each rank keeps, how they add up, how they agree.

Tensor parallelism: every rank holds a share of each matrix and computes with it; after the two
matrices of a layer that write into the residual stream, the ranks' partial sums are added up.
"""
