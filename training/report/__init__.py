"""How people see an evaluation."""
