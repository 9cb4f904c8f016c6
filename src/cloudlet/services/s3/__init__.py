"""S3: buckets and objects, small ones in the database and large ones in files."""
