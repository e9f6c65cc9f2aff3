"""What `troupe pull s3://` asks for and how it signs that, checked request by request.

The signatures are computed anew by botocore, which in turn has to reproduce those that Amazon
publishes ("Authenticating Requests: Using the Authorization Header", examples for S3).
"""

import datetime
import re
import urllib.parse
import xml.sax.saxutils

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from pull_support import FAILED, MIB, OK, assert_pulled, model_files, troupe  # noqa: F401
from web_servers import Server

KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)
# Names that are written differently in a URL, in a signature and in a listing.
NAMES = ["a+b & c.json", "100%.json", "größe.json", "a=b,(c)'!*.json", "~x_y-z.json"]


def signature(method, url, headers, region):
    """Of a request without a body that is signed with `headers` and no others."""
    request = botocore.awsrequest.AWSRequest(method=method, url=url, headers=headers)
    request.context["timestamp"] = headers["x-amz-date"]
    keys = botocore.credentials.Credentials(KEY_ID, SECRET)
    signer = botocore.auth.S3SigV4Auth(keys, "s3", region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return signer.signature(text, request)


@pytest.mark.parametrize(
    ("path", "more", "published"),
    [
        (
            "/test.txt",
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "/?lifecycle=",
            {},
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "/?max-keys=2&prefix=J",
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_the_checker_itself_computes_the_published_signatures(path, more, published):
    host = "examplebucket.s3.amazonaws.com"
    headers = {"host": host, "x-amz-content-sha256": NOTHING, "x-amz-date": "20130524T000000Z"}
    assert signature("GET", f"https://{host}{path}", headers | more, "us-east-1") == published


def check_signature(method, target, headers, region):
    """`target` as it stood in the request line; fails unless everything that matters is signed."""
    fields = {name.lower(): value for name, value in headers.items()}
    match = AUTHORIZATION.fullmatch(fields["authorization"])
    assert match, fields["authorization"]
    key_id, day, scope, names, given = match.groups()
    assert (key_id, scope) == (KEY_ID, region)
    assert fields["x-amz-date"].startswith(day)
    sent = datetime.datetime.strptime(fields["x-amz-date"], "%Y%m%dT%H%M%SZ")
    age = datetime.datetime.now(datetime.UTC) - sent.replace(tzinfo=datetime.UTC)
    assert abs(age) < datetime.timedelta(minutes=5)
    signed = names.split(";")
    assert signed == sorted(signed) and "host" in signed
    assert {x for x in fields if x.startswith("x-amz-")} <= set(signed)
    assert fields["x-amz-content-sha256"] == NOTHING
    url = f"http://{fields['host']}{target}"
    chosen = {name: fields[name] for name in signed}
    assert signature(method, url, chosen, region) == given, (method, target, signed)


class Bucket(Server):
    """One bucket, `models`, that lists two keys a page and lets anyone in, but keeps the requests."""

    def __init__(self, files, prefix):
        super().__init__()
        self.prefix = prefix
        self.objects = {f"{prefix}/{path}": data for path, data in files.items()}
        self.token = "1/+=& 2"  # has to be encoded, and once only

    def serve(self, handler, path, wanted):
        host = handler.headers["Host"]
        if not host.startswith("models."):
            assert path == "/models" or path.startswith("/models/"), path
            path = path.removeprefix("/models")
        key = path.lstrip("/")
        if not key:
            return self.list(handler)
        self.files[path] = self.objects[key]
        return self.send_file(handler, path, self.objects[key], wanted)

    def list(self, handler):
        query = dict(urllib.parse.parse_qsl(handler.path.split("?")[1], strict_parsing=True))
        assert query["list-type"] == "2" and query["prefix"] == self.prefix + "/"
        begin = 0
        if "continuation-token" in query:
            assert query["continuation-token"].startswith(self.token)
            begin = int(query["continuation-token"].removeprefix(self.token))
        page = sorted(self.objects)[begin : begin + 2]
        text = ""
        for key in page:
            self.files[key] = self.objects[key]
            text += f"<Contents><Key>{xml.sax.saxutils.escape(key)}</Key>"
            text += f"<ETag>{xml.sax.saxutils.escape(self.etag(key))}</ETag>"
            text += f"<Size>{len(self.objects[key])}</Size></Contents>"
        if begin + 2 < len(self.objects):
            token = xml.sax.saxutils.escape(f"{self.token}{begin + 2}")
            text += f"<NextContinuationToken>{token}</NextContinuationToken>"
            text += "<IsTruncated>true</IsTruncated>"
        body = f"<ListBucketResult>{text}</ListBucketResult>".encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True


@pytest.fixture
def bucket():
    names = {name: f'{{"name": "{i}"}}'.encode() for i, name in enumerate(NAMES)}
    server = Bucket(model_files(20 * MIB) | names, "llms/tiny one")
    yield server
    server.close()


def environment(endpoint, **more):
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    return keys | {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "eu-west-3"} | more


def pull(troupe, bucket, reference="s3://models/llms/tiny one", **env):
    done = troupe("pull", reference, env=env)
    assert done.returncode == OK, done.stderr
    files = {key.removeprefix(bucket.prefix + "/"): data for key, data in bucket.objects.items()}
    assert_pulled(troupe.store / "tiny one", files)
    assert len(bucket.requests) > len(files)
    return bucket.requests


def virtual(bucket):
    """An endpoint whose subdomains are this machine too."""
    return bucket.url.replace("127.0.0.1", "localhost")


def test_every_request_is_signed_as_the_standard_says(troupe, bucket):
    for method, target, headers in pull(troupe, bucket, **environment(bucket.url)):
        assert target.startswith("/models")
        check_signature(method, target, headers, "eu-west-3")
    assert any("Range" in headers for _, _, headers in bucket.requests)


def test_the_bucket_may_be_part_of_the_host(troupe, bucket):
    where = urllib.parse.quote(virtual(bucket), safe="")
    reference = f"s3://models/llms/tiny one?endpoint={where}&addressing=virtual"
    for method, target, headers in pull(troupe, bucket, reference, **environment("http://x")):
        assert headers["Host"].startswith("models.localhost:")
        assert target.startswith(("/llms/", "/?"))
        check_signature(method, target, headers, "eu-west-3")


def test_the_region_of_the_reference_is_the_one_signed_for(troupe, bucket):
    reference = "s3://models/llms/tiny one?region=ap-south-1"
    for method, target, headers in pull(troupe, bucket, reference, **environment(bucket.url)):
        check_signature(method, target, headers, "ap-south-1")


def test_a_session_token_is_sent_and_signed(troupe, bucket):
    token = "IQoJb3JpZ2luX2VjE+/=="
    env = environment(bucket.url, AWS_SESSION_TOKEN=token)
    for method, target, headers in pull(troupe, bucket, **env):
        assert headers["X-Amz-Security-Token"] == token
        check_signature(method, target, headers, "eu-west-3")


def test_without_credentials_nothing_is_signed(troupe, bucket):
    env = {"AWS_ENDPOINT_URL": bucket.url}
    for _, _, headers in pull(troupe, bucket, **env):
        assert "Authorization" not in headers


def test_keys_of_the_environment_go_before_those_of_a_profile(troupe, bucket):
    (troupe.home / ".aws").mkdir()
    (troupe.home / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = x\n"
        "aws_session_token = stale\n"
    )
    for method, target, headers in pull(troupe, bucket, **environment(bucket.url)):
        assert "X-Amz-Security-Token" not in headers
        check_signature(method, target, headers, "eu-west-3")


def test_a_bucket_of_another_region_is_said_to_be_there(troupe, bucket):
    def redirect(handler, path, wanted):
        return bucket.refuse(handler, 301, x_amz_bucket_region="eu-north-1", Location="/elsewhere")

    bucket.faults.append(redirect)
    done = troupe("pull", "s3://models/llms/tiny one", env=environment(bucket.url))
    assert done.returncode != OK and "?region=eu-north-1" in done.stderr, done.stderr
    assert not any("elsewhere" in target for _, target, _ in bucket.requests)


def test_secrets_are_never_shown(troupe, bucket):
    bucket.faults.append(lambda h, p, r: bucket.refuse(h, 403))
    token = "IQoJb3JpZ2luX2Vj"
    env = environment(bucket.url, AWS_SESSION_TOKEN=token)
    done = troupe("pull", "s3://models/llms/tiny one", env=env)
    assert done.returncode == FAILED
    for secret in (SECRET, token):
        assert secret not in done.stderr + done.stdout
