//! Who may do what: Ed25519 tokens (JWT, `alg` EdDSA), roles, and what is open without a key.
//!
//! Tokens are read as the original's library reads them: `exp`, `nbf` and `iat` count when they are there, to the
//! second, without leeway; nothing else in the claims matters but `roles`. One difference: a token with `exp: 0` is
//! expired, not eternal. An `exp` that no clock can show is refused, there and here.
//!
//! | | reading and writing | `free` and `debug` |
//! |---|---|---|
//! | with a key | any valid token | a valid token with the role `ROLE_ADMIN`, `admin` or `api` (unless `require-roles` is off) |
//! | without a key | everybody | from this machine and under a name of its own (`localhost`, 127.0.0.1, ::1), not through a proxy or a foreign web page |
//!
//! The name counts because a browser can be made to believe that a foreign name is this machine (DNS rebinding): the
//! request then comes from here, and its origin and its host are both the foreign name.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::Value;

/// Tokens whose signature is remembered to be good. Checking one costs 50 µs, a fleet sends one and the same.
const CACHED_TOKENS_MAX: usize = 1024;
/// Longest token that is looked at, bytes.
const TOKEN_BYTES_MAX: usize = 8192;
/// Roles that may free and debug: the web front end writes `admin`, its older versions `ROLE_ADMIN`.
const ADMIN_ROLES: [&str; 3] = ["ROLE_ADMIN", "admin", "api"];
/// By which a browser says whose page sends a request.
const SEC_FETCH_SITE: &str = "sec-fetch-site";
/// Headers that a proxy adds: who is behind it is not on this machine.
const FORWARDING_HEADERS: [&str; 5] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// Who asks, as far as the connection and the head of the request tell.
#[derive(Debug, Clone, Copy)]
pub struct Requester<'a> {
    /// The headers of the request.
    pub headers: &'a HeaderMap,
    /// Where the connection comes from.
    pub peer: IpAddr,
    /// The host in the target of the request, if the target names one (`GET http://host/path`).
    pub target_host: Option<&'a str>,
}

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
    #[error("a role is needed that the token does not give: admin, ROLE_ADMIN or api")]
    Role,
    /// Without a key only this machine may administer.
    #[error(
        "without main.jwt-public-key this is answered only to requests from the machine itself, to localhost or 127.0.0.1"
    )]
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
    /// `exp`, `nbf` or `iat` is no number, or `exp` is none that a clock can show.
    #[error("a time in it is no number of seconds")]
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
        if self.not_before.is_some_and(|start| now_s < start)
            || self.issued.is_some_and(|start| now_s < start)
        {
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

    /// Whether a request by this requester may have this access at this time, in seconds since 1970.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, access: Access, requester: Requester<'_>, now_s: i64) -> Result<(), Denied> {
        let Some(key) = &self.key else {
            return if access == Access::Use || requester.is_local() {
                Ok(())
            } else {
                Err(Denied::NotLocal)
            };
        };
        let token = requester
            .headers
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
        // Whole seconds, rounded down. A float-to-integer cast saturates, which is right for a start: it is far away.
        Some(value) => value.as_f64().map(|seconds| Some(seconds.floor() as i64)).ok_or(BadToken::Time),
    };
    let expires = time("exp")?;
    // What saturates there would never expire.
    if expires == Some(i64::MAX) {
        return Err(BadToken::Time);
    }
    let roles = claims.get("roles").and_then(Value::as_array);
    let admin = roles
        .is_some_and(|roles| roles.iter().filter_map(Value::as_str).any(|role| ADMIN_ROLES.contains(&role)));
    Ok(Claims { expires, not_before: time("nbf")?, issued: time("iat")?, admin })
}

impl Requester<'_> {
    /// Whether the request comes from this machine, is meant for it, and has nobody behind it.
    fn is_local(&self) -> bool {
        let Self { headers, peer, target_host } = self;
        let host_is_foreign =
            |host: &HeaderValue| !host.to_str().ok().and_then(host_name).is_some_and(is_loopback_name);
        peer.to_canonical().is_loopback()
            && !FORWARDING_HEADERS.iter().any(|name| headers.contains_key(*name))
            // Programs that send no host are no browsers.
            && !headers.get_all(header::HOST).iter().any(host_is_foreign)
            && target_host.is_none_or(is_loopback_name)
            && !is_from_foreign_page(headers)
    }
}

/// The name in `name`, `name:port` or `[address]:port`, without the brackets.
fn host_name(host: &str) -> Option<&str> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        return (port.is_empty() || port.starts_with(':')).then_some(address);
    }
    Some(host.split_once(':').map_or(host, |(name, _)| name))
}

/// Whether nobody else can own this name or address.
fn is_loopback_name(name: &str) -> bool {
    let plain = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = plain.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case("localhost")
}

/// Whether a browser on this machine sends it for a page of another origin.
fn is_from_foreign_page(headers: &HeaderMap) -> bool {
    // Browsers say where a request comes from, also where they send no origin: `none` is a human's own doing.
    let site = headers.get_all(SEC_FETCH_SITE);
    if site.iter().any(|site| site != "same-origin" && site != "none") {
        return true;
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let page = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let server = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    page.is_none() || page != server
}

#[cfg(test)]
mod tests;
