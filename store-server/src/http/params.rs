//! Parameters behind the `?` of a path.

use std::borrow::Cow;

use axum::http::Uri;
use percent_encoding::percent_decode_str;

use super::ApiError;

/// The first parameter of this name, percent-decoded; `None` if there is none or it is empty.
///
/// A plus sign is a plus sign: it may be part of a cluster's name.
///
/// # Errors
/// It is no UTF-8 when decoded.
pub(super) fn get<'a>(uri: &'a Uri, name: &str) -> Result<Option<Cow<'a, str>>, ApiError> {
    for pair in uri.query().unwrap_or_default().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if percent_decode_str(key).eq(name.bytes()) {
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| ApiError::bad_request(format!("{name}: not UTF-8: {value:?}")))?;
            return Ok(Some(value).filter(|value| !value.is_empty()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(query: &str) -> Result<Option<String>, ApiError> {
        let uri: Uri = format!("/api/write{query}").parse().unwrap();
        Ok(get(&uri, "cluster")?.map(Cow::into_owned))
    }

    #[test]
    fn a_parameter_is_found_and_decoded() {
        assert_eq!(cluster("?cluster=alpha"), Ok(Some("alpha".into())));
        assert_eq!(cluster("/?x=1&cluster=ep%20silon&cluster=2"), Ok(Some("ep silon".into())));
        assert_eq!(cluster("?clu%73ter=a%2Bb+c%C3%A9"), Ok(Some("a+b+cé".into())));
        for none in ["", "?", "?cluster", "?cluster=", "?clusters=a", "?x=cluster"] {
            assert_eq!(cluster(none), Ok(None), "{none}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(cluster("?cluster=%ff").is_err());
    }
}
