//! JSON objects as the original reads them: keys in any case, and `null` is what is left out.
//!
//! Go's decoder finds a field whatever the case of its key, and of a key that stands twice the last value counts. What
//! serde derives knows only the exact key, and takes an unknown one for nothing: a request with `From` would ask from
//! 1970. Requests are read by hand with [`key_of`]; the config derives its structs and reads them as [`Object`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer as _, MapAccess, Visitor,
};

/// The key as the names of fields are written, which is in lower case: letters that fold to each other are one, as for
/// the original.
fn folded(key: &str) -> Cow<'_, str> {
    if !key.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        return Cow::Borrowed(key);
    }
    let fold = |letter| match letter {
        // The only letters beyond ASCII that fold to one of it: the long s, and the sign of Kelvin.
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    Cow::Owned(key.chars().map(fold).collect())
}

/// Reads the next key of an object: its place in `names`, which are in lower case, or the key as it stands if it is none
/// of them. `None` behind the last key.
///
/// # Errors
/// As those of the object.
pub(crate) fn key_of<'de, A: MapAccess<'de>>(
    map: &mut A,
    names: &'static [&'static str],
) -> Result<Option<Result<usize, String>>, A::Error> {
    map.next_key_seed(Key(names))
}

struct Key(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Result<usize, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let place = |key: &str| self.0.iter().position(|name| *name == key);
        Ok(place(key).or_else(|| place(&folded(key))).ok_or_else(|| key.to_owned()))
    }
}

/// Reads `T` from an object only, with keys in any case.
///
/// What serde derives for a struct also takes a list of its fields in their order, so that
/// `{"main": ["0.0.0.0:80"]}` would be a config. A key that stands twice is refused.
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
        T::deserialize(MapAccessDeserializer::new(Folded(map)))
    }
}

/// An object with its keys in lower case.
struct Folded<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Folded<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(FoldedKey(seed))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// A key that is put into lower case while it is read, so that an error in it is one at its place.
struct FoldedKey<K>(K);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for FoldedKey<K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for FoldedKey<K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<K::Value, E> {
        self.0.deserialize((*folded(key)).into_deserializer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        name: String,
        #[serde(default)]
        inner: Option<Object<Number>>,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Number {
        k: i64,
    }

    #[test]
    fn an_object_is_read_whatever_the_case_of_its_keys() {
        for text in [
            r#"{"name": "x", "inner": {"k": 5}}"#,
            r#"{"Name": "x", "INNER": {"K": 5}}"#,
            "{\"name\": \"x\", \"inner\": {\"\u{212a}\": 5}}",
        ] {
            let Object(pair) = serde_json::from_str::<Object<Pair>>(text).unwrap();
            assert_eq!(pair, Pair { name: "x".to_owned(), inner: Some(Object(Number { k: 5 })) }, "{text}");
        }
    }

    #[test]
    fn a_list_is_no_object() {
        let refusal = serde_json::from_str::<Object<Pair>>(r#"["x", null]"#).unwrap_err().to_string();
        assert!(refusal.starts_with("invalid type: sequence, expected an object"), "{refusal}");
        let refusal = serde_json::from_str::<Object<Pair>>(r#"{"name": "x", "inner": [5]}"#).unwrap_err();
        assert!(refusal.to_string().contains("expected an object at line 1"), "{refusal}");
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_with_its_place() {
        let refusal = serde_json::from_str::<Object<Pair>>(r#"{"Nmae": "x"}"#).unwrap_err().to_string();
        assert!(refusal.starts_with("unknown field `nmae`") && refusal.contains(" line 1 "), "{refusal}");
    }
}
