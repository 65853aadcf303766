"""Work on configs for command lines: launching, data, backbones exchanged, faults explained."""
