//! [`Object`]: a struct that is read from a JSON object and from nothing else.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Reads `T` from an object only.
///
/// What serde derives for a struct also takes a list of its fields in their order, so that `[]` would be a request
/// with all its defaults, and `{"main": ["0.0.0.0:80"]}` a config.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object<T>(pub(crate) T);

impl<T> Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Pair<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
        #[serde(default)]
        inner: Option<Object<Number>>,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Number {
        n: i64,
    }

    #[test]
    fn an_object_is_read_and_still_borrows() {
        let Object(pair) =
            serde_json::from_str::<Object<Pair<'_>>>(r#"{"name": "x", "inner": {"n": 5}}"#).unwrap();
        assert!(matches!(pair.name, Cow::Borrowed("x")));
        assert_eq!(pair.inner, Some(Object(Number { n: 5 })));
    }

    #[test]
    fn a_list_is_no_object() {
        let refusal = serde_json::from_str::<Object<Pair<'_>>>(r#"["x", null]"#).unwrap_err().to_string();
        assert!(refusal.starts_with("invalid type: sequence, expected an object"), "{refusal}");
        let refusal = serde_json::from_str::<Object<Pair<'_>>>(r#"{"name": "x", "inner": [5]}"#).unwrap_err();
        assert!(refusal.to_string().contains("expected an object at line 1"), "{refusal}");
    }
}
