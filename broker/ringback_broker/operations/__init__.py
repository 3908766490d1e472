"""What operators ask and order, and what endpoints report. Pure."""
