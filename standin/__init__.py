"""A stand-in for graph.qq.com: `python -m standin` for people, `running()` for tests."""

from .server import QQ, running

__all__ = ["QQ", "running"]
