"""A stand-in for graph.qq.com: start it with `python -m standin`, or use `running()` in a test."""

from .server import QQ, running

__all__ = ["QQ", "running"]
