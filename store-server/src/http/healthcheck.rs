//! `GET /api/healthcheck`: which hosts send what they should.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use store_core::json;

use super::{ApiError, App, answer, body};
use crate::auth::Access;
use crate::engine::{HealthAnswer, HealthState, ReadError};
use crate::object;

/// The body. Here, and only here, the original refuses unknown fields.
#[derive(Debug, Default)]
struct Question {
    cluster: String,
    nodes: Vec<String>,
    metric_names: Vec<String>,
}

impl<'de> Deserialize<'de> for Question {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuestionVisitor)
    }
}

impl Question {
    /// Names that stand twice count once: a host is looked at under its lock, once for each metric.
    fn simplify(&mut self) {
        self.nodes.sort_unstable();
        self.nodes.dedup();
        let mut seen = HashSet::new();
        self.metric_names.retain(|name| seen.insert(name.clone()));
    }

    /// Memory that the answer takes at most: each host names all metrics, and is there as lists and as text.
    fn answer_bytes(&self) -> usize {
        let length = |names: &[String]| names.iter().map(|name| name.len() + NAME_BYTES).sum::<usize>();
        let of_all = self.nodes.len().saturating_mul(length(&self.metric_names));
        of_all.saturating_add(length(&self.nodes)).saturating_mul(3)
    }
}

/// Bytes of a name beside its letters.
const NAME_BYTES: usize = 32;

/// The longest answer, in memory, bytes: a hundred metrics of 25,000 nodes.
const ANSWER_BYTES_MAX: usize = 384 << 20;

struct QuestionVisitor;

impl<'de> Visitor<'de> for QuestionVisitor {
    type Value = Question;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Question, A::Error> {
        let names = |list: Option<Vec<Option<String>>>| {
            list.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect()
        };
        let mut question = Question::default();
        while let Some(key) = object::key_of(&mut map, &["cluster", "nodes", "metric-names"])? {
            match key {
                Ok(0) => question.cluster = map.next_value::<Option<_>>()?.unwrap_or(question.cluster),
                Ok(1) => question.nodes = names(map.next_value()?),
                Ok(_) => question.metric_names = names(map.next_value()?),
                Err(key) => return Err(A::Error::custom(format_args!("unknown field `{key}`"))),
            }
        }
        Ok(question)
    }

    fn visit_unit<E>(self) -> Result<Question, E> {
        Ok(Question::default())
    }
}

/// `{host: {"State", "HealthMetrics"}}`, hosts in the order of their names.
pub(super) async fn healthcheck(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    app.authorize(Access::Use, &parts)?;
    let body = body::read_list(&app, &parts.headers, body).await?;
    app.call(
        |app| &app.queries,
        move |app| {
            let mut question = Question::deserialize(&mut serde_json::Deserializer::from_slice(body.bytes()))
                .map_err(|error| ApiError::bad_request(format!("parsing request body failed: {error}")))?;
            question.simplify();
            let mut held = app.budget.part();
            let bytes = question.answer_bytes();
            if bytes > ANSWER_BYTES_MAX {
                return Err(ApiError::too_large("too many metrics of too many nodes"));
            }
            if !held.grow(bytes) {
                return Err(ApiError::busy("no memory left for answers"));
            }
            let health = app
                .store
                .health(&question.cluster, &question.nodes, &question.metric_names)
                .map_err(|error| match error {
                    ReadError::Loading => ApiError::busy(error.to_string()),
                    _ => ApiError::bad_request(error.to_string()),
                })?;
            Ok(answer::counted_json(text(&health), held))
        },
    )
    .await?
}

fn text(health: &[(String, HealthAnswer)]) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (n, (host, answer)) in health.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::push_string(&mut out, host);
        let state = match answer.state {
            HealthState::Full => "full",
            HealthState::Partial => "partial",
            HealthState::Failed => "failed",
        };
        out.extend_from_slice(format!(":{{\"State\":\"{state}\",\"HealthMetrics\":").as_bytes());
        json::push_string(&mut out, &metrics(answer));
        out.push(b'}');
    }
    out.extend_from_slice(b"}\n");
    out
}

/// JSON in a string, as the original has it; empty for a host that does not exist.
fn metrics(answer: &HealthAnswer) -> String {
    if !answer.found {
        return String::new();
    }
    let mut out = b"{\"degraded\":".to_vec();
    push_list(&mut out, &answer.degraded);
    out.extend_from_slice(b",\"missing\":");
    push_list(&mut out, &answer.missing);
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default()
}

fn push_list(out: &mut Vec<u8>, names: &[String]) {
    out.push(b'[');
    for (n, name) in names.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::push_string(out, name);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_stand_in_a_string_and_an_unknown_host_has_none() {
        let answer = |found, state, degraded: &[&str], missing: &[&str]| HealthAnswer {
            found,
            state,
            degraded: degraded.iter().map(|name| (*name).to_owned()).collect(),
            missing: missing.iter().map(|name| (*name).to_owned()).collect(),
        };
        let health = [
            ("a\"1".to_owned(), answer(true, HealthState::Partial, &["cpu_load", "x\"y"], &[])),
            ("b".to_owned(), answer(false, HealthState::Failed, &[], &[])),
        ];
        let value: serde_json::Value = serde_json::from_slice(&text(&health)).unwrap();
        assert_eq!(value["b"], serde_json::json!({"State": "failed", "HealthMetrics": ""}));
        assert_eq!(value["a\"1"]["State"], "partial");
        let inner: serde_json::Value =
            serde_json::from_str(value["a\"1"]["HealthMetrics"].as_str().unwrap()).unwrap();
        assert_eq!(inner, serde_json::json!({"degraded": ["cpu_load", "x\"y"], "missing": []}));
        assert_eq!(text(&[]), b"{}\n");
    }
}
