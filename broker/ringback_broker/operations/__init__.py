"""What operators query and order, and what endpoints report. Pure."""
