"""The parts of the second reader: rules, keys, packs, stores and trees, in the order in which they build on each other."""
