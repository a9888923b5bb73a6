"""Long runs that are watched for leaks and stalls."""
