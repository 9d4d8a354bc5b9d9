"""Blobs in an S3 store (R2, MinIO, rclone): an async class over boto3, whose errors stay inside this room."""

from service.blobs.client import BlobStoreSettings
from service.blobs.store import Blobs, StoredBlob, make_blob_key, tenant_of_blob_key

__all__ = ["BlobStoreSettings", "Blobs", "StoredBlob", "make_blob_key", "tenant_of_blob_key"]
