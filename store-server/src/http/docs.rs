//! The page that describes the API (`-dev`), and what stands at `/`.

use axum::http::{HeaderName, header};
use axum::response::{Html, IntoResponse};

/// One page without anything from elsewhere: it works on networks that have no way out.
const PAGE: &str = include_str!("docs.html");

/// The page loads nothing and sends nothing but to this server, whatever is typed into it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What this is and where to go.
pub(super) async fn landing() -> &'static str {
    concat!(
        "store-server ",
        env!("CARGO_PKG_VERSION"),
        ", a metric store.\n\n",
        "POST /api/write?cluster=C    lines of line protocol\n",
        "GET  /api/query              series (JSON body; POST works too)\n",
        "GET  /api/healthcheck        hosts that do not send what they should (JSON body)\n",
        "POST /api/free?to=T          free what is older (admin)\n",
        "GET  /api/debug              what is there (admin); also /status and /memory\n",
        "GET  /docs                   the API in detail (started with -dev)\n",
    )
}

/// The page.
pub(super) async fn page() -> impl IntoResponse {
    let headers: [(HeaderName, &str); 2] =
        [(header::CONTENT_SECURITY_POLICY, POLICY), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, Html(PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for reference in ["src=", "href=\"http", "@import", "url("] {
            assert!(!PAGE.contains(reference), "{reference}");
        }
    }

    #[test]
    fn the_page_tells_of_every_route() {
        for route in crate::http::paths::ROUTES {
            assert!(PAGE.contains(&format!(">{route}")), "{route}");
        }
    }
}
