"""How tests reach a server of S3 buckets."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import boto3
import s3fs


def s3_environment(endpoint: str, key: str = "testkey", secret: str = "testsecret") -> dict[str, str]:
    """The environment variables that lead s3:// to a server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


@contextmanager
def forgotten() -> Iterator[None]:
    """A block before and after which no connection is kept: each belongs to the environment it was made in."""
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        yield
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def make_bucket() -> str:
    """The URI of a new bucket, where the environment leads."""
    name = f"b{uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"
