"""What happens to people: kills, signals, full disks, damaged and hostile files, little memory, busy cores.

What is quick runs with the other tests; ``python -m tests.faults --minutes 20`` goes on with random cases for that long
and ends in a line of figures.
"""
