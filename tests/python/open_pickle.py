"""Opens a pickle as Python programs do. What it calls is called; what goes wrong afterwards does not matter.

usage: open_pickle.py FILE
"""
import pickle
import sys

try:
    with open(sys.argv[1], "rb") as f:
        pickle.load(f)
except Exception as e:
    print(e)
