//! Paths that are not written as the routes are: answered with a redirect to the route, or with 404.
//!
//! The original cleans a path before it looks for a route: a client that was given `http://host:8082/` and puts
//! `/api/query` behind it asks for `//api/query`, is redirected with 307 and sends method and body once more. Only paths
//! of the API are redirected, so that nobody can make the server name a foreign place (`//example.org`).

use std::borrow::Cow;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::percent_decode_str;

/// The paths of the API; each answers also for what lies below it.
pub(super) const ROUTES: [&str; 7] = [
    "/api/write",
    "/api/query",
    "/api/free",
    "/api/debug",
    "/api/debug/status",
    "/api/debug/memory",
    "/api/healthcheck",
];

/// Answers what no route takes.
pub(super) async fn elsewhere(request: Request) -> Response {
    match cleaned(request.uri()).map(HeaderValue::try_from) {
        Some(Ok(location)) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Where the route is that the path means: without empty and dotted parts and without escapes. `None` if the path is as
/// it should be, or means no route.
fn cleaned(uri: &Uri) -> Option<String> {
    let mut parts: Vec<Cow<'_, str>> = Vec::new();
    for part in uri.path().split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(percent_decode_str(part).decode_utf8().ok()?),
        }
    }
    let mut path = String::new();
    // A part that has a slash in it is not two parts.
    for part in &parts {
        path += "/";
        path += &part.replace('/', "%2F");
    }
    let below =
        |route: &str| path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let route = ROUTES.iter().filter(|route| below(route)).max_by_key(|route| route.len())?;
    // What lies below a route means the route; it is not repeated, so nothing of it needs to be escaped.
    let location = match uri.query() {
        Some(query) => format!("{route}?{query}"),
        None => (*route).to_owned(),
    };
    (uri.path() != *route).then_some(location)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(path: &str) -> Option<String> {
        cleaned(&path.parse().unwrap())
    }

    #[test]
    fn a_path_that_means_a_route_leads_to_it() {
        for (path, expected) in [
            ("//api/query", "/api/query"),
            ("/api//query", "/api/query"),
            ("/api/./query/", "/api/query"),
            ("/api/x/../query", "/api/query"),
            ("/../../api/query", "/api/query"),
            ("/api/%71uery", "/api/query"),
            ("//api/write?cluster=a%20b&x=/../y", "/api/write?cluster=a%20b&x=/../y"),
            ("//api/debug/status/", "/api/debug/status"),
            ("//api/query/x%0d%0ay", "/api/query"),
            ("http://other//api/query", "/api/query"),
        ] {
            assert_eq!(location(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn what_means_no_route_leads_nowhere() {
        for path in [
            "/",
            "//",
            "//example.org",
            "//example.org/api/query",
            "/api",
            "/api/queryx",
            "/API/query",
            "/api%2fquery",
            "/api/query%2f",
            "/api/query/../../x",
            "/api/%ff/query",
            "/api/query",
            "*",
        ] {
            assert_eq!(location(path), None, "{path}");
        }
    }
}
