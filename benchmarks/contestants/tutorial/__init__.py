"""QQ login as the tutorial has it that shops of this family are built by, written from its description."""
