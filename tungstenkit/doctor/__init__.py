"""What a machine has and lacks: each thing is tried as a build would use it, and what is found is a value.

In goes this machine; out come findings, with what mends what is lacking. Nothing is changed, and nothing stays."""
