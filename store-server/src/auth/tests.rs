//! Tokens made by the original's tools, roles, and what is open without a key.

use super::*;
use axum::http::{HeaderName, HeaderValue};

const GOLDEN: &str = include_str!("../../tests/golden/jwt/tokens.json");
const NOW_S: i64 = 1_800_000_000;

fn golden() -> Value {
    serde_json::from_str(GOLDEN).unwrap()
}

fn golden_auth(require_roles: bool) -> Auth {
    let key = golden()["public-key"].as_str().unwrap().to_owned();
    let key = base64::engine::general_purpose::STANDARD.decode(key).unwrap();
    Auth::new(Some(key.try_into().unwrap()), require_roles)
}

fn token(name: &str) -> String {
    let golden = golden();
    let tokens = golden["tokens"].as_array().unwrap();
    tokens.iter().find(|token| token["name"] == name).unwrap()["token"].as_str().unwrap().to_owned()
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect()
}

fn bearer(token: &str) -> HeaderMap {
    headers(&[("authorization", &format!("Bearer {token}"))])
}

/// Whether a request with these headers, from this address, may have this access.
fn check(auth: &Auth, access: Access, headers: &HeaderMap, peer: IpAddr, now_s: i64) -> Result<(), Denied> {
    auth.check(access, Requester { headers, peer, target_host: None }, now_s)
}

fn here() -> IpAddr {
    IpAddr::from([127, 0, 0, 1])
}

#[test]
fn tokens_of_the_original_are_judged_as_the_original_judges_them() {
    let auth = golden_auth(true);
    let golden = golden();
    let tokens = golden["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 29);
    for entry in tokens {
        let name = entry["name"].as_str().unwrap();
        // The one difference: no token is valid for ever because it says that it expired in 1970.
        let expected = entry["status"] == 200 && name != "exp-zero";
        for round in ["fresh", "cached"] {
            let got = check(&auth, Access::Use, &bearer(entry["token"].as_str().unwrap()), here(), NOW_S);
            assert_eq!(got.is_ok(), expected, "{name}, {round}: {got:?}");
        }
    }
}

#[test]
fn a_token_that_expires_at_0_is_expired() {
    let got = check(&golden_auth(true), Access::Use, &bearer(&token("exp-zero")), here(), NOW_S);
    assert_eq!(got, Err(Denied::BadToken(BadToken::Expired)));
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let auth = golden_auth(true);
    let cases = [
        ("expired", BadToken::Expired),
        ("exp-string", BadToken::Time),
        ("exp-null", BadToken::Time),
        ("not-yet-valid", BadToken::NotYet),
        ("issued-in-the-future", BadToken::NotYet),
        ("wrong-key", BadToken::Signature),
        ("tampered", BadToken::Signature),
        ("no-signature", BadToken::Signature),
        ("alg-none", BadToken::Algorithm),
        ("alg-hs256-public-key-as-secret", BadToken::Algorithm),
        ("alg-missing", BadToken::Algorithm),
        ("claims-not-an-object", BadToken::Malformed),
        ("two-parts", BadToken::Malformed),
        ("four-parts", BadToken::Malformed),
        ("garbage", BadToken::Malformed),
    ];
    for (name, what) in cases {
        let got = check(&auth, Access::Use, &bearer(&token(name)), here(), NOW_S);
        assert_eq!(got, Err(Denied::BadToken(what)), "{name}");
    }
}

#[test]
fn a_cached_token_expires_all_the_same() {
    let auth = golden_auth(true);
    let headers = bearer(&token("valid-admin"));
    assert_eq!(check(&auth, Access::Use, &headers, here(), 4_102_444_799), Ok(()));
    let expired = Err(Denied::BadToken(BadToken::Expired));
    assert_eq!(check(&auth, Access::Use, &headers, here(), 4_102_444_800), expired);
}

#[test]
fn only_bearer_tokens_count() {
    let auth = golden_auth(true);
    let token = token("valid-admin");
    for value in
        [format!("bearer {token}"), token.clone(), "Basic dXNlcjpwYXNz".to_owned(), "Bearer".to_owned()]
    {
        let headers = headers(&[("authorization", &value)]);
        assert_eq!(check(&auth, Access::Use, &headers, here(), NOW_S), Err(Denied::NoToken), "{value}");
    }
    assert_eq!(check(&auth, Access::Use, &HeaderMap::new(), here(), NOW_S), Err(Denied::NoToken));
    let two_blanks = check(&auth, Access::Use, &bearer(&format!(" {token}")), here(), NOW_S);
    assert_eq!(two_blanks, Err(Denied::BadToken(BadToken::Malformed)));
}

#[test]
fn administration_needs_a_role() {
    let auth = golden_auth(true);
    for (name, expected) in [
        ("valid-admin", Ok(())),
        ("valid-no-times", Ok(())),
        ("valid-role-api", Ok(())),
        ("valid-no-roles", Err(Denied::Role)),
        ("valid-user-role", Err(Denied::Role)),
        ("valid-empty-claims", Err(Denied::Role)),
    ] {
        let headers = bearer(&token(name));
        assert_eq!(check(&auth, Access::Administer, &headers, here(), NOW_S), expected, "{name}");
        assert_eq!(check(&golden_auth(false), Access::Administer, &headers, here(), NOW_S), Ok(()), "{name}");
    }
}

#[test]
fn without_a_key_all_may_use_and_only_this_machine_may_administer() {
    let auth = Auth::new(None, true);
    assert!(!auth.needs_token());
    let away = IpAddr::from([192, 0, 2, 1]);
    assert_eq!(check(&auth, Access::Use, &HeaderMap::new(), away, NOW_S), Ok(()));
    assert_eq!(check(&auth, Access::Administer, &HeaderMap::new(), away, NOW_S), Err(Denied::NotLocal));
    for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.8.8.8"] {
        let got = check(&auth, Access::Administer, &HeaderMap::new(), local.parse().unwrap(), NOW_S);
        assert_eq!(got, Ok(()), "{local}");
    }
    for name in FORWARDING_HEADERS {
        let got = check(&auth, Access::Administer, &headers(&[(name, "x")]), here(), NOW_S);
        assert_eq!(got, Err(Denied::NotLocal), "{name}");
    }
}

#[test]
fn a_web_page_of_another_origin_may_not_administer_through_a_browser() {
    let auth = Auth::new(None, true);
    let check = |fields: &[(&str, &str)]| check(&auth, Access::Administer, &headers(fields), here(), NOW_S);
    let host = ("host", "localhost:8082");
    assert_eq!(check(&[host, ("origin", "http://localhost:8082")]), Ok(()));
    assert_eq!(check(&[host, ("origin", "http://evil.example")]), Err(Denied::NotLocal));
    assert_eq!(check(&[host, ("origin", "null")]), Err(Denied::NotLocal));
}

#[test]
fn without_a_key_a_name_that_others_can_own_may_not_administer() {
    let auth = Auth::new(None, true);
    for (host, expected) in [
        ("localhost", Ok(())),
        ("localhost:8082", Ok(())),
        ("LocalHost.:8082", Ok(())),
        ("127.0.0.1:8082", Ok(())),
        ("127.9.9.9", Ok(())),
        ("[::1]:8082", Ok(())),
        ("[::ffff:127.0.0.1]", Ok(())),
        ("evil.example", Err(Denied::NotLocal)),
        ("evil.example:8082", Err(Denied::NotLocal)),
        ("localhost.evil.example", Err(Denied::NotLocal)),
        ("127.0.0.1.evil.example", Err(Denied::NotLocal)),
        ("192.0.2.1:8082", Err(Denied::NotLocal)),
        ("0.0.0.0:8082", Err(Denied::NotLocal)),
        ("[::]:8082", Err(Denied::NotLocal)),
        ("[::1].evil.example", Err(Denied::NotLocal)),
        ("", Err(Denied::NotLocal)),
    ] {
        // As a browser sends it that was told that the name is this machine.
        let origin = format!("http://{host}");
        let fields = [("host", host), ("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
        let asked = headers(&fields);
        assert_eq!(check(&auth, Access::Administer, &asked, here(), NOW_S), expected, "{host}");
        assert_eq!(check(&auth, Access::Use, &asked, here(), NOW_S), Ok(()), "{host}");
        // A target with a host is heard before the header.
        let none = HeaderMap::new();
        if let Some(name) = host_name(host) {
            let target = Requester { headers: &none, peer: here(), target_host: Some(name) };
            assert_eq!(auth.check(Access::Administer, target, NOW_S), expected, "target {host}");
        }
    }
    let two = [("host", "localhost"), ("host", "evil.example")];
    let asked = headers(&two);
    assert_eq!(check(&auth, Access::Administer, &asked, here(), NOW_S), Err(Denied::NotLocal));
}

#[test]
fn a_request_of_a_page_of_another_site_may_not_administer() {
    let auth = Auth::new(None, true);
    for (site, expected) in [
        ("same-origin", Ok(())),
        ("none", Ok(())),
        ("same-site", Err(Denied::NotLocal)),
        ("cross-site", Err(Denied::NotLocal)),
    ] {
        let asked = headers(&[("host", "localhost:8082"), ("sec-fetch-site", site)]);
        assert_eq!(check(&auth, Access::Administer, &asked, here(), NOW_S), expected, "{site}");
    }
}

/// A token with these claims, and somebody who knows its key.
fn signed(claims: &str) -> (Auth, String) {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let auth = Auth::new(Some(pair.public_key().as_ref().try_into().unwrap()), true);
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let text = format!("{}.{}", part(r#"{"alg": "EdDSA"}"#), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes()));
    (auth, format!("{text}.{signature}"))
}

#[test]
fn times_are_judged_to_the_second_and_one_that_no_clock_shows_does_not_count_as_never() {
    for (claims, expected) in [
        (r#"{"exp": 1800000000.5}"#, Err(BadToken::Expired)),
        (r#"{"exp": 1800000001.5}"#, Ok(())),
        (r#"{"exp": 9223372036854775000}"#, Ok(())),
        (r#"{"exp": 9223372036854775808}"#, Err(BadToken::Time)),
        (r#"{"exp": 18446744073709551616}"#, Err(BadToken::Time)),
        (r#"{"exp": 1e30}"#, Err(BadToken::Time)),
        (r#"{"exp": -1e30}"#, Err(BadToken::Expired)),
        (r#"{"exp": -1}"#, Err(BadToken::Expired)),
        (r#"{"exp": 1e400}"#, Err(BadToken::Malformed)),
        (r#"{"exp": "1900000000"}"#, Err(BadToken::Time)),
        (r#"{"exp": true}"#, Err(BadToken::Time)),
        (r#"{"nbf": 1e30}"#, Err(BadToken::NotYet)),
        (r#"{"nbf": -1e30}"#, Ok(())),
        (r#"{"iat": 1e30}"#, Err(BadToken::NotYet)),
        (r#"{"iat": 1799999999.9}"#, Ok(())),
        (r#"{"exp": 1, "exp": 1900000000}"#, Ok(())),
    ] {
        let (auth, token) = signed(claims);
        let got = check(&auth, Access::Use, &bearer(&token), here(), NOW_S);
        assert_eq!(got, expected.map_err(Denied::BadToken), "{claims}");
    }
}

#[test]
fn each_of_the_roles_of_an_admin_may_administer() {
    for (roles, expected) in [
        (r#"["admin"]"#, Ok(())),
        (r#"["user", "admin"]"#, Ok(())),
        (r#"["ROLE_ADMIN"]"#, Ok(())),
        (r#"["api"]"#, Ok(())),
        (r#"["Admin"]"#, Err(Denied::Role)),
        (r#"["ROLE_API", "support"]"#, Err(Denied::Role)),
        (r#""admin""#, Err(Denied::Role)),
        ("null", Err(Denied::Role)),
    ] {
        let (auth, token) = signed(&format!(r#"{{"roles": {roles}}}"#));
        let got = check(&auth, Access::Administer, &bearer(&token), here(), NOW_S);
        assert_eq!(got, expected, "{roles}");
    }
}

#[test]
fn the_cache_is_bounded() {
    let auth = golden_auth(true);
    let claims = Claims { expires: None, not_before: None, issued: None, admin: false };
    {
        let mut cache = auth.cache.write().unwrap();
        for n in 0..CACHED_TOKENS_MAX {
            cache.insert(format!("t{n}").into(), claims);
        }
    }
    assert_eq!(check(&auth, Access::Use, &bearer(&token("valid-admin")), here(), NOW_S), Ok(()));
    assert_eq!(auth.cache.read().unwrap().len(), 1);
}
