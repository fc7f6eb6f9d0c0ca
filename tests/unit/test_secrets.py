"""What is masked, and what is left alone."""

from __future__ import annotations

import pytest

from cluster.secrets import Mask, is_secret, option_values
from cluster.spec import JobSpec, mask_of, shown_document
from cluster.spec_parts import RoleSpec

KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\n  9w0BAQEFAASCBKcwggSj\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", True),
        ("DB_PASSWORD", True),
        ("db_passwd", True),
        ("HF_TOKEN", True),
        ("API_KEY", True),
        ("AZURE_STORAGE_CONNECTION_STRING", True),
        ("MYSQL_PWD", True),
        ("DB_PASS", True),
        ("KEY_PASSPHRASE", True),
        ("GITHUB_PAT", True),
        ("apiKey", True),
        ("API_KEYS", True),
        ("access_tokens", True),
        ("privateKey", True),
        ("TOKENIZERS_PARALLELISM", False),
        ("max_tokens", False),
        ("feature_keys", False),
        ("OLDPWD", False),
        ("bypass", False),
        ("KEYBOARD", False),
        ("PATH", False),
    ],
)
def test_the_name_of_a_variable_says_whether_it_is_secret(name: str, secret: bool) -> None:
    assert is_secret(name) == secret


def test_the_words_of_a_script_are_masked_after_such_an_option() -> None:
    job = JobSpec(script=["train.py", "--api-key", "first-one", "--db-password=second", "--out", "not-a-secret"])
    shown = ["train.py", "--api-key", "***", "--db-password=***", "--out", "not-a-secret"]
    assert shown_document(job)["script"] == shown
    assert mask_of(job, {}).text("first-one second not-a-secret") == "*** *** not-a-secret"
    assert [*option_values(["--token"])] == [""]
    assert [*option_values(["--use-token", "--epochs", "3"])] == [""]


def test_passwords_in_uris_of_the_environment_are_masked() -> None:
    environ = {"DATABASE_URL": "postgres://user:pass-word@host/db", "HTTPS_PROXY": "http://me:proxy-word@proxy:3128"}
    mask = mask_of(JobSpec(script=["train.py"]), environ)
    assert mask.text("postgres://user:pass-word@host/db proxy-word") == "postgres://user:***@host/db ***"


def test_secrets_become_stars_wherever_they_stand() -> None:
    mask = Mask.over(["hush-hush"])
    assert (
        mask.text("curl -H 'Bearer hush-hush' hush-hush.example\nhush-hush") == "curl -H 'Bearer ***' ***.example\n***"
    )
    assert mask.text("nothing here") == "nothing here"


def test_no_part_of_a_longer_secret_stays() -> None:
    assert Mask.over(["secret", "secret-and-more"]).text("x=secret-and-more y=secret") == "x=*** y=***"


@pytest.mark.parametrize("value", ["", "1", "true", "none", "12345"])
def test_what_is_too_short_to_guard_anything_stays(value: str) -> None:
    assert Mask.over([value]).values == ()


def test_a_secret_of_several_lines_is_masked_line_by_line() -> None:
    mask = Mask.over([KEY])
    printed = mask.text(f"env: {KEY!r}\n{KEY}")
    assert "MIIEvQIBADANBgkqhkiG" not in printed
    assert "9w0BAQEFAASCBKcwggSj" not in printed


def test_a_secret_is_masked_as_addresses_write_it() -> None:
    mask = Mask.over(["p@ss/word+1"])
    assert mask.text("s3://key:p%40ss%2Fword%2B1@bucket and p@ss/word+1") == "s3://key:***@bucket and ***"
    assert Mask.over(["p%40ss%2Fword"]).text("p@ss/word") == "***"


def test_values_in_json_documents_are_masked_and_the_rest_stays_as_it_is() -> None:
    mask = Mask.over(["hush-hush"])
    document = {"a": ["hush-hush!", 1.5, None], "hush-hush": {"b": "x hush-hush"}, "c": ("hush-hush", True)}
    assert mask.data(document) == {"a": ["***!", 1.5, None], "hush-hush": {"b": "x ***"}, "c": ["***", True]}
    assert Mask().data(document) is document


def test_the_secrets_of_a_job() -> None:
    spec = JobSpec(
        entrypoint="train.py:train",
        storage="s3://key:storage-secret@bucket/runs",
        roles={"worker": RoleSpec(env={"DB_PASSWORD": "role-secret", "COLOUR": "light-blue"})},
        runtime_env={"env_vars": {"HF_TOKEN": "runtime-secret"}},
    )
    mask = mask_of(spec, {"API_KEY": "launcher-secret", "HOME": "/home/ada"})
    seen = "storage-secret role-secret light-blue runtime-secret launcher-secret /home/ada"
    assert mask.text(seen) == "*** *** light-blue *** *** /home/ada"


def test_secrets_among_arguments_are_masked_by_the_same_names_however_deep() -> None:
    args = {
        "wandb_api_key": "abcdef123456",
        "epochs": 300000,
        "login": {"user": "ada-lovelace", "password": 12345678, "tokens": [{"hf_token": "nested-secret"}]},
        "db_password": ["first-secret", {"second": "inner-secret"}],
        "use_token": True,
    }
    spec = JobSpec(entrypoint="train.py:train", args=args)
    seen = "abcdef123456 300000 ada-lovelace 12345678 nested-secret first-secret inner-secret True"
    assert mask_of(spec, {}).text(seen) == "*** 300000 ada-lovelace *** *** *** *** True"
    assert shown_document(spec)["args"] == {
        "wandb_api_key": "***",
        "epochs": 300000,
        "login": {"user": "ada-lovelace", "password": "***", "tokens": [{"hf_token": "***"}]},
        "db_password": ["***", {"second": "***"}],
        "use_token": True,
    }
    assert spec.args == args  # what the tasks get


def test_masking_twice_changes_nothing_more() -> None:
    mask = Mask.over(["hush-hush", "******secret"])
    assert mask.text(mask.text("hush-hush")) == "***"


def test_lines_without_secrets_are_not_copied() -> None:
    text = "step 12 loss 0.25\n" * 1000
    assert Mask.over([f"{number:02d}-not-in-any-log" for number in range(12)]).text(text) is text
