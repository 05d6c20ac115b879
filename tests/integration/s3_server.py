"""A server that speaks Amazon's S3 (moto's) in a process of its own, which checks signatures and can go away."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import boto3

from core.settings import Settings
from ops.embedded.ports import LOOPBACK, accepts_connections, pick_port
from tests.integration.servers import wait_until

BUCKET = "scans-of-a-test"
_REGION = "us-east-1"
_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


@dataclass
class S3Server:
    """One bucket, and one key that may use it; what it held is gone after `stop`."""

    port: int = field(default_factory=pick_port)
    access_key: str = ""
    secret_key: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: accepts_connections(self.port), 60, "the S3 server")
        users = self._client("iam")
        users.create_user(UserName="weir")
        users.put_user_policy(UserName="weir", PolicyName="objects", PolicyDocument=json.dumps(_ALL))
        key = users.create_access_key(UserName="weir")["AccessKey"]
        self.access_key, self.secret_key = key["AccessKeyId"], key["SecretAccessKey"]
        self._client("s3").create_bucket(Bucket=BUCKET)
        # From here on every signature is checked.
        url, kind = f"{self.endpoint}/moto-api/reset-auth", {"content-type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, b"0", kind), timeout=30).close()  # noqa: S310

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def settings(self, **changes: Any) -> Settings:
        return Settings(**{**self.as_settings(), **changes})

    def as_settings(self) -> dict[str, str]:
        """What names the bucket in Weir's settings."""
        return {
            "objects_url": f"s3://{BUCKET}/some/prefix",
            "objects_endpoint": self.endpoint,
            "objects_region": _REGION,
            "objects_access_key": self.access_key,
            "objects_secret_key": self.secret_key,
        }

    def uploads(self) -> list[str]:
        """Keys of objects of which parts are there and which are not whole."""
        found = self._client("s3", self.access_key, self.secret_key).list_multipart_uploads(Bucket=BUCKET)
        return [upload["Key"] for upload in found.get("Uploads", [])]

    def parts_of(self, key: str) -> int:
        """How many parts an object was put together from; 1 of one that came whole."""
        client = self._client("s3", self.access_key, self.secret_key)
        tag = client.head_object(Bucket=BUCKET, Key=f"some/prefix/{key}")["ETag"].strip('"')
        return int(tag.partition("-")[2] or 1)

    def _client(self, service: str, key: str = "admin", secret: str = "admin") -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=_REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )
