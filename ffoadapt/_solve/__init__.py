"""From a program to a solution that is proved: jobs, choice, failures, acceptance."""
