"""QQ login as in the tutorial that meiduo shops are built from, written from its description."""
