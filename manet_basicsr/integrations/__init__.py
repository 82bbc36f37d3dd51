"""MANet in other programs; each module needs its program, and is imported by who has it."""
