"""Stub."""


def stratified_split(units, counts, *, validation, test, seed):
    raise NotImplementedError
