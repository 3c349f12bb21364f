"""What is measured and drawn while a policy trains."""
