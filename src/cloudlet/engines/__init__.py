"""What Cloudlet runs but did not write: one folder for each seam, one file for each product."""
