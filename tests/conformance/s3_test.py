"""s3:// against moto's S3 server, which checks every signature as Amazon's would."""

import http.server
import json
import threading
import urllib.request

import boto3
import botocore.config
import pytest
from moto.server import ThreadedMotoServer
from pull_support import FAILED, MIB, NOT_FOUND, OK, assert_pulled, model_files, troupe  # noqa: F401
from web_servers import Server

REGION = "eu-west-3"


@pytest.fixture(scope="module")
def s3():
    """An S3 server with a user who may read, and one key pair per way of passing credentials."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    yield url
    server.stop()


@pytest.fixture
def account(s3):
    """A bucket with a model, and a user allowed to read; from here on signatures are checked."""
    post(f"{s3}/moto-api/reset")
    common = {"endpoint_url": s3, "region_name": REGION}
    common |= {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
    path_style = botocore.config.Config(s3={"addressing_style": "path"})
    iam = boto3.client("iam", **common)
    iam.create_user(UserName="reader")
    policy = {"Effect": "Allow", "Action": ["s3:*"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [policy]})
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=document)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    client = boto3.client("s3", **common, config=path_style)
    where = {"LocationConstraint": REGION}
    client.create_bucket(Bucket="models", CreateBucketConfiguration=where)
    files = model_files(20 * MIB)
    for path, data in files.items():
        client.put_object(Bucket="models", Key=f"llms/tiny one/{path}", Body=data)
    client.put_object(Bucket="models", Key="llms/tiny one/", Body=b"")
    client.put_object(Bucket="models", Key="llms/tiny one-more/config.json", Body=b"{}")
    post(f"{s3}/moto-api/reset-auth", b"0")
    common |= {"aws_access_key_id": key["AccessKeyId"]}
    common |= {"aws_secret_access_key": key["SecretAccessKey"]}
    yield {
        "id": key["AccessKeyId"],
        "secret": key["SecretAccessKey"],
        "files": files,
        "url": s3,
        "client": boto3.client("s3", **common, config=path_style),
    }
    post(f"{s3}/moto-api/reset-auth", b"1000000000")


def post(url, body=b""):
    plain = {"Content-Type": "text/plain"}  # else the server takes it for a form
    request = urllib.request.Request(url, data=body, method="POST", headers=plain)
    urllib.request.urlopen(request).read()


def environment(account, **more):
    return {
        "AWS_ACCESS_KEY_ID": account["id"],
        "AWS_SECRET_ACCESS_KEY": account["secret"],
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": account["url"],
    } | more


REFERENCE = "s3://models/llms/tiny one"


def test_a_model_is_fetched_with_signed_requests(troupe, account):
    done = troupe("pull", REFERENCE, env=environment(account))
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "tiny one", account["files"])
    again = troupe("pull", REFERENCE, env=environment(account))
    assert again.returncode == OK and "nothing to fetch" in again.stdout


@pytest.mark.parametrize(
    "wrong", [{"AWS_SECRET_ACCESS_KEY": "guessed"}, {"AWS_ACCESS_KEY_ID": "AKIA0000000000000000"}]
)
def test_a_wrong_key_is_refused_with_what_the_server_says(troupe, account, wrong):
    done = troupe("pull", REFERENCE, env=environment(account, **wrong))
    assert done.returncode == FAILED, done.stdout
    assert "denied" in done.stderr and "AWS_ACCESS_KEY_ID" in done.stderr


def test_credentials_come_from_a_profile_with_everything_in_it(troupe, account):
    aws = troupe.home / ".aws"
    aws.mkdir()
    keys = f"aws_access_key_id = {account['id']}\naws_secret_access_key={account['secret']}\n"
    (aws / "credentials").write_text(
        "[default]\naws_access_key_id = nobody\n"
        "aws_secret_access_key = x\n\n# work\n[work]\n" + keys
    )
    (aws / "config").write_text(
        f"[profile work]\nregion = {REGION}\nendpoint_url = {account['url']}\n"
        "s3 =\n  addressing_style = path\n"
    )
    done = troupe("pull", REFERENCE, env={"AWS_PROFILE": "work"})
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "tiny one", account["files"])


def test_credentials_come_from_the_instance_it_runs_on(troupe, account):
    """IMDSv2: a PUT for a token, without which nothing is told."""
    credentials = {"Code": "Success", "AccessKeyId": account["id"], "Token": ""}
    credentials |= {"SecretAccessKey": account["secret"], "Expiration": "2099-01-01T00:00:00Z"}
    base = "/latest/meta-data/iam/security-credentials/"
    answers = {
        base: b"node-role",
        base + "node-role": json.dumps(credentials).encode(),
        "/latest/meta-data/placement/region": REGION.encode(),
    }
    asked = []

    class Metadata(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def reply(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self):
            assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
            self.reply(200, b"secret-token")

        def do_GET(self):
            asked.append(self.path)
            if self.headers.get("X-aws-ec2-metadata-token") != "secret-token":
                return self.reply(401, b"")
            self.reply(200 if self.path in answers else 404, answers.get(self.path, b""))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {
        "AWS_EC2_METADATA_DISABLED": "false",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "AWS_ENDPOINT_URL_S3": account["url"],
    }
    done = troupe("pull", REFERENCE, env=env)
    server.shutdown()
    server.server_close()
    assert done.returncode == OK, done.stderr
    assert base + "node-role" in asked and len(asked) <= 3
    assert_pulled(troupe.store / "tiny one", account["files"])


def container(answer, tokens):
    """What answers containers at AWS: those with the token of the moment."""
    server = Server()

    def reply(handler, path, wanted):
        if path != "/v1/credentials" or handler.headers["Authorization"] != tokens[0]:
            return server.refuse(handler, 401)
        return server.send_file(handler, path, json.dumps(answer).encode(), None)

    server.faults.append(reply)
    return server


def test_credentials_come_from_the_container_it_runs_in(troupe, account):
    answer = {"AccessKeyId": account["id"], "SecretAccessKey": account["secret"], "Token": ""}
    server = container(answer | {"Expiration": "2099-01-01T00:00:00Z"}, ["pod-token"])
    token = troupe.home / "token"
    token.write_text("pod-token\n")
    env = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.url}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": account["url"],
    }
    done = troupe("pull", REFERENCE, env=env)
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "tiny one", account["files"])
    assert len(server.requests) == 1
    token.write_text("another")
    refused = troupe("pull", "s3://models/llms", env=env)
    server.close()
    assert refused.returncode == FAILED and "container's credentials" in refused.stderr


def test_the_reference_itself_may_say_where_and_how(troupe, account):
    env = environment(account)
    del env["AWS_ENDPOINT_URL"], env["AWS_REGION"]
    reference = f"{REFERENCE}?endpoint={account['url']}&region={REGION}&addressing=path"
    done = troupe("pull", reference, env=env)
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "tiny one", account["files"])


def test_listings_of_many_pages_are_read_to_the_end(troupe, account):
    for i in range(1030):
        account["client"].put_object(Bucket="models", Key=f"wide/{i:04}.json", Body=b"{}")
    for path, data in model_files(MIB).items():
        account["client"].put_object(Bucket="models", Key=f"wide/{path}", Body=data)
    done = troupe("pull", "s3://models/wide", env=environment(account))
    assert done.returncode == OK, done.stderr
    assert len(list((troupe.store / "wide").glob("*.json"))) == 1032


def test_a_stored_sha256_is_checked(troupe, account):
    data = model_files(MIB)
    client = account["client"]
    for path, body in data.items():
        client.put_object(
            Bucket="models", Key=f"summed/{path}", Body=body, ChecksumAlgorithm="SHA256"
        )
    assert troupe("pull", "s3://models/summed", env=environment(account)).returncode == OK
    assert_pulled(troupe.store / "summed", data)


@pytest.mark.parametrize("reference", ["s3://models/absent", "s3://no-such-bucket/x"])
def test_what_is_not_there_is_named(troupe, account, reference):
    done = troupe("pull", reference, env=environment(account))
    assert done.returncode == NOT_FOUND and reference in done.stderr, done.stderr


def test_objects_that_are_replaced_meanwhile_are_noticed(troupe, account):
    client = account["client"]
    files = dict(account["files"])
    files["config.json"] = b'{"architectures": ["LlamaForCausalLM"], "new": true}'
    assert troupe("pull", REFERENCE, env=environment(account)).returncode == OK
    client.put_object(Bucket="models", Key="llms/tiny one/config.json", Body=files["config.json"])
    assert troupe("pull", REFERENCE, env=environment(account)).returncode == OK
    assert_pulled(troupe.store / "tiny one", files)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>not a listing</html>",
        b"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>p/../../x</Key><Size>1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><ListBucketResult>&a;</ListBucketResult>',
        b"<ListBucketResult>" * 100,
    ],
)
def test_listings_that_make_no_sense_are_refused(troupe, answer):
    web = Server()

    def reply(handler, path, wanted):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)
        return True

    web.faults.append(reply)
    done = troupe("pull", "s3://models/p", env={"AWS_ENDPOINT_URL": web.url})
    web.close()
    assert done.returncode == FAILED and "s3://models/p" in done.stderr, done.stderr
    assert not any(troupe.home.rglob("x"))
