//! Who may do what: Ed25519 tokens (JWT, `alg` EdDSA), roles, and what is open without a key.
//!
//! Tokens are read as the original's library reads them: `exp`, `nbf` and `iat` count when they are there, to the
//! second, without leeway; nothing else in the claims matters but `roles`. One difference: a token with `exp: 0` is
//! expired, not eternal.
//!
//! | | reading and writing | `free` and `debug` |
//! |---|---|---|
//! | with a key | any valid token | a valid token with the role `ROLE_ADMIN` or `api` (unless `require-roles` is off) |
//! | without a key | everybody | from this machine, not through a proxy or a foreign web page |

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::Value;

/// Tokens whose signature is remembered to be good. Checking one costs 50 µs, a fleet sends one and the same.
const CACHED_TOKENS_MAX: usize = 1024;
/// Longest token that is looked at, bytes.
const TOKEN_BYTES_MAX: usize = 8192;
/// Roles that may free and debug.
const ADMIN_ROLES: [&str; 2] = ["ROLE_ADMIN", "api"];
/// Headers that a proxy adds: who is behind it is not on this machine.
const FORWARDING_HEADERS: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Write samples, ask queries.
    Use,
    /// Free data, look inside.
    Administer,
}

/// Why a request may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// There is no `Authorization: Bearer` header.
    #[error("a token is needed: Authorization: Bearer <JWT>")]
    NoToken,
    /// The token is none, or not one of ours.
    #[error("invalid token: {0}")]
    BadToken(BadToken),
    /// The token is good and lacks the role.
    #[error("a role is needed that the token does not give: ROLE_ADMIN or api")]
    Role,
    /// Without a key only this machine may administer.
    #[error("without main.jwt-public-key this is answered only to requests from the machine itself")]
    NotLocal,
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadToken {
    /// Not three parts of base64 with JSON in them.
    #[error("malformed")]
    Malformed,
    /// Another algorithm than EdDSA.
    #[error("only the algorithm EdDSA is supported")]
    Algorithm,
    /// The signature is not by the configured key.
    #[error("the signature does not fit")]
    Signature,
    /// `exp` is past.
    #[error("expired")]
    Expired,
    /// `nbf` or `iat` is ahead.
    #[error("not valid yet")]
    NotYet,
    /// `exp`, `nbf` or `iat` is no number.
    #[error("a time in it is no number")]
    Time,
}

/// The times and roles of a token whose signature is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claims {
    expires: Option<i64>,
    not_before: Option<i64>,
    issued: Option<i64>,
    admin: bool,
}

impl Claims {
    fn check(&self, now_s: i64) -> Result<(), BadToken> {
        if self.expires.is_some_and(|expires| now_s >= expires) {
            return Err(BadToken::Expired);
        }
        if self.not_before.is_some_and(|start| now_s < start) || self.issued.is_some_and(|start| now_s < start) {
            return Err(BadToken::NotYet);
        }
        Ok(())
    }
}

/// Decides about requests.
#[derive(Debug)]
pub struct Auth {
    key: Option<UnparsedPublicKey<[u8; 32]>>,
    require_roles: bool,
    /// Tokens with a good signature; their times are looked at each time. No other lock is taken while it is held.
    cache: RwLock<HashMap<Box<str>, Claims>>,
}

impl Auth {
    /// Tokens by `key`, or no tokens.
    pub fn new(key: Option<[u8; 32]>, require_roles: bool) -> Self {
        let key = key.map(|key| UnparsedPublicKey::new(&ED25519, key));
        Self { key, require_roles, cache: RwLock::default() }
    }

    /// Whether a token is needed at all.
    pub fn needs_token(&self) -> bool {
        self.key.is_some()
    }

    /// Whether a request with these headers, from this address, may have this access at this time.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, access: Access, headers: &HeaderMap, peer: IpAddr, now_s: i64) -> Result<(), Denied> {
        let Some(key) = &self.key else {
            return if access == Access::Use || is_local(headers, peer) { Ok(()) } else { Err(Denied::NotLocal) };
        };
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or(Denied::NoToken)?;
        let claims = self.claims(key, token).map_err(Denied::BadToken)?;
        claims.check(now_s).map_err(Denied::BadToken)?;
        if access == Access::Administer && self.require_roles && !claims.admin {
            return Err(Denied::Role);
        }
        Ok(())
    }

    fn claims(&self, key: &UnparsedPublicKey<[u8; 32]>, token: &str) -> Result<Claims, BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken::Malformed);
        }
        if let Some(claims) = self.cache.read().unwrap_or_else(PoisonError::into_inner).get(token) {
            return Ok(*claims);
        }
        let claims = verify(key, token)?;
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_TOKENS_MAX {
            cache.clear();
        }
        cache.insert(token.into(), claims);
        Ok(claims)
    }
}

/// Checks the signature, then reads the claims.
fn verify(key: &UnparsedPublicKey<[u8; 32]>, token: &str) -> Result<Claims, BadToken> {
    let (signed, signature) = token.rsplit_once('.').ok_or(BadToken::Malformed)?;
    let (head, claims) = signed.split_once('.').ok_or(BadToken::Malformed)?;
    if claims.contains('.') {
        return Err(BadToken::Malformed);
    }
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| BadToken::Malformed);
    let head: Value = serde_json::from_slice(&decode(head)?).map_err(|_| BadToken::Malformed)?;
    if head.get("alg").and_then(Value::as_str) != Some("EdDSA") {
        return Err(BadToken::Algorithm);
    }
    key.verify(signed.as_bytes(), &decode(signature)?).map_err(|_| BadToken::Signature)?;
    let claims: Value = serde_json::from_slice(&decode(claims)?).map_err(|_| BadToken::Malformed)?;
    let claims = claims.as_object().ok_or(BadToken::Malformed)?;
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        // Whole seconds, rounded down. A float-to-integer cast saturates.
        Some(value) => value.as_f64().map(|seconds| Some(seconds.floor() as i64)).ok_or(BadToken::Time),
    };
    let roles = claims.get("roles").and_then(Value::as_array);
    let admin = roles.is_some_and(|roles| {
        roles.iter().filter_map(Value::as_str).any(|role| ADMIN_ROLES.contains(&role))
    });
    Ok(Claims { expires: time("exp")?, not_before: time("nbf")?, issued: time("iat")?, admin })
}

/// Whether the request comes from this machine and from nobody behind it.
fn is_local(headers: &HeaderMap, peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
        && !FORWARDING_HEADERS.iter().any(|name| headers.contains_key(*name))
        && !is_from_foreign_page(headers)
}

/// Whether a browser on this machine sends it for a page of another origin.
fn is_from_foreign_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let page = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let server = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    page.is_none() || page != server
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    const GOLDEN: &str = include_str!("../tests/golden/jwt/tokens.json");
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
                let got = auth.check(Access::Use, &bearer(entry["token"].as_str().unwrap()), here(), NOW_S);
                assert_eq!(got.is_ok(), expected, "{name}, {round}: {got:?}");
            }
        }
    }

    #[test]
    fn a_token_that_expires_at_0_is_expired() {
        let got = golden_auth(true).check(Access::Use, &bearer(&token("exp-zero")), here(), NOW_S);
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
            let got = auth.check(Access::Use, &bearer(&token(name)), here(), NOW_S);
            assert_eq!(got, Err(Denied::BadToken(what)), "{name}");
        }
    }

    #[test]
    fn a_cached_token_expires_all_the_same() {
        let auth = golden_auth(true);
        let headers = bearer(&token("valid-admin"));
        assert_eq!(auth.check(Access::Use, &headers, here(), 4_102_444_799), Ok(()));
        let expired = Err(Denied::BadToken(BadToken::Expired));
        assert_eq!(auth.check(Access::Use, &headers, here(), 4_102_444_800), expired);
    }

    #[test]
    fn only_bearer_tokens_count() {
        let auth = golden_auth(true);
        let token = token("valid-admin");
        for value in [format!("bearer {token}"), token.clone(), "Basic dXNlcjpwYXNz".to_owned(), "Bearer".to_owned()] {
            let headers = headers(&[("authorization", &value)]);
            assert_eq!(auth.check(Access::Use, &headers, here(), NOW_S), Err(Denied::NoToken), "{value}");
        }
        assert_eq!(auth.check(Access::Use, &HeaderMap::new(), here(), NOW_S), Err(Denied::NoToken));
        let two_blanks = auth.check(Access::Use, &bearer(&format!(" {token}")), here(), NOW_S);
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
            assert_eq!(auth.check(Access::Administer, &headers, here(), NOW_S), expected, "{name}");
            assert_eq!(golden_auth(false).check(Access::Administer, &headers, here(), NOW_S), Ok(()), "{name}");
        }
    }

    #[test]
    fn without_a_key_all_may_use_and_only_this_machine_may_administer() {
        let auth = Auth::new(None, true);
        assert!(!auth.needs_token());
        let away = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(auth.check(Access::Use, &HeaderMap::new(), away, NOW_S), Ok(()));
        assert_eq!(auth.check(Access::Administer, &HeaderMap::new(), away, NOW_S), Err(Denied::NotLocal));
        for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.8.8.8"] {
            let got = auth.check(Access::Administer, &HeaderMap::new(), local.parse().unwrap(), NOW_S);
            assert_eq!(got, Ok(()), "{local}");
        }
        for name in FORWARDING_HEADERS {
            let got = auth.check(Access::Administer, &headers(&[(name, "x")]), here(), NOW_S);
            assert_eq!(got, Err(Denied::NotLocal), "{name}");
        }
    }

    #[test]
    fn a_web_page_of_another_origin_may_not_administer_through_a_browser() {
        let auth = Auth::new(None, true);
        let check = |fields: &[(&str, &str)]| auth.check(Access::Administer, &headers(fields), here(), NOW_S);
        let host = ("host", "localhost:8082");
        assert_eq!(check(&[host, ("origin", "http://localhost:8082")]), Ok(()));
        assert_eq!(check(&[host, ("origin", "http://evil.example")]), Err(Denied::NotLocal));
        assert_eq!(check(&[host, ("origin", "null")]), Err(Denied::NotLocal));
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
        assert_eq!(auth.check(Access::Use, &bearer(&token("valid-admin")), here(), NOW_S), Ok(()));
        assert_eq!(auth.cache.read().unwrap().len(), 1);
    }
}
