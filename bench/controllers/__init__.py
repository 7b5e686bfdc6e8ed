"""Stores and real controllers, and the programs that send requests to them as many hosts do.

Those programs are processes of their own, so that they slow down neither the controller nor the benchmark.
"""
