"""A webhook is Stripe's if one of the secrets made its signature within five minutes of now, before or after."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from accounts.billing.signatures import BadSignature, verify

NOW, BODY = 1_800_000_000, b'{"id": "evt_1"}'


def header(at_s: int, secret: str = "whsec_new") -> str:
    signature = hmac.new(secret.encode(), b"%d.%s" % (at_s, BODY), hashlib.sha256).hexdigest()
    return f"t={at_s},v1={'0' * 64},v1={signature},v0=ignored"


@pytest.mark.parametrize("skew_s", [-300, 0, 300])
@pytest.mark.parametrize("secret", ["whsec_old", "whsec_new"])
def test_each_of_the_secrets_holds_up_to_five_minutes_before_and_after(skew_s: int, secret: str) -> None:
    verify(BODY, header(NOW + skew_s, secret), ["whsec_old", "whsec_new", ""], NOW)


@pytest.mark.parametrize("skew_s", [-301, 301, 3_600, -86_400])
def test_a_time_further_away_is_refused_however_it_is_signed(skew_s: int) -> None:
    with pytest.raises(BadSignature, match="more than 300 s"):
        verify(BODY, header(NOW + skew_s), ["whsec_new"], NOW)


@pytest.mark.parametrize("secrets", [[], [""], ["whsec_other"]])
def test_nobody_signs_without_a_secret_or_with_another(secrets: list[str]) -> None:
    for own in ("whsec_new", ""):
        with pytest.raises(BadSignature, match="no secret"):
            verify(BODY, header(NOW, own), secrets, NOW)


@pytest.mark.parametrize("text", ["", "t=1", "v1=00", "t=1,t=2,v1=00", "t=-1,v1=00", "t=²,v1=00"])
def test_a_header_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(BadSignature, match="is not t=…,v1=…"):
        verify(BODY, text, ["whsec_new"], NOW)
