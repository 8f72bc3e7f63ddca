//! The JSON reader against serde_json, and at its limits.

use dsv4_core::error::Error;
use dsv4_core::format::json::{Event, Reader};
use proptest::prelude::*;

/// Reads `text` back into a value, or says that it is not JSON.
fn read(text: &[u8]) -> Result<serde_json::Value, Error> {
    fn value(event: Event<'_>, reader: &mut Reader<'_>) -> Result<serde_json::Value, Error> {
        Ok(match event {
            Event::Null => serde_json::Value::Null,
            Event::Bool(b) => b.into(),
            Event::Text(t) => t.chars().collect::<String>().into(),
            Event::Number(n) => match (n.u64(), n.i64()) {
                (Some(n), _) => n.into(),
                (_, Some(n)) if n != 0 => n.into(),
                _ => n.f64().ok_or(reader.error())?.into(),
            },
            Event::Array => {
                let mut array = vec![];
                while reader.more()? {
                    let event = reader.event()?;
                    array.push(value(event, reader)?);
                }
                array.into()
            }
            Event::Object => {
                let mut object = serde_json::Map::new();
                while reader.more()? {
                    let key = reader.key()?.chars().collect();
                    let event = reader.event()?;
                    object.insert(key, value(event, reader)?);
                }
                object.into()
            }
            Event::Key(_) | Event::ArrayEnd | Event::ObjectEnd | Event::End => return Err(reader.error()),
        })
    }
    let mut reader = Reader::new(text);
    let mut skipping = reader;
    let event = reader.event()?;
    let value = value(event, &mut reader)?;
    assert_eq!(reader.event()?, Event::End);
    assert_eq!(reader.event()?, Event::End);
    assert_eq!(skipping.skip_value(), Ok(()));
    assert_eq!(skipping.event(), Ok(Event::End));
    Ok(value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20000))]

    /// The same texts are JSON, with the same meaning, as serde_json says.
    #[test]
    fn json_as_serde_json(parts in proptest::collection::vec(proptest::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\u0061\"", "\"\\ud83d\\ude00\"", "\"\\ud83d\"", "\"\\udc00\"", "\"\\ud83d\\u0041\"", "\"é中\"",
        "\"\\n\\/\\\\\\\"\"", "\"\\x\"", "\"\t\"", "1", "0", "-", "01", "-0", "1.5", "1.", ".5", "1e3", "1e", "1E-2", "18446744073709551615",
        "18446744073709551616", "-9223372036854775808", "true", "false", "null", "nul", " ", "\n", "\"k\":", "[1,2]", "{\"a\":{}}", "\u{b}", "\"",
    ]), 0..9)) {
        let text = parts.concat();
        match (read(text.as_bytes()), serde_json::from_str::<serde_json::Value>(&text)) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_err(), "{} {:?} {:?}", text, ours, theirs),
        }
    }

    #[test]
    fn json_of_any_value(seed in any::<u64>(), text in any::<String>()) {
        let value = serde_json::json!({"a": [seed, -(seed as f64), text.clone()], text: {"b": [[], {}, null, true]}});
        prop_assert_eq!(read(value.to_string().as_bytes()), Ok(value));
    }

    #[test]
    fn json_of_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        prop_assert_eq!(read(&bytes).is_ok(), serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
    }
}

/// What follows the value that `text` starts with.
fn skip(text: &str) -> Result<Event<'_>, Error> {
    let mut reader = Reader::new(text.as_bytes());
    reader.skip_value()?;
    reader.event()
}

#[test]
fn json_limits() {
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        assert_eq!(skip(&nested(open, close, 128)), Ok(Event::End));
        assert_eq!(skip(&nested(open, close, 129)), Err(Error::BadJson { at: 128 * open.len() as u64 }));
        assert!(skip(&open.repeat(1_000_000)).is_err());
    }
    let huge = |text: &'static str| Reader::new(text.as_bytes()).number().unwrap();
    assert_eq!((huge("1e400").f64(), huge("-1e400").f64(), huge("1e-400").f64()), (None, None, Some(0.0)));
    assert_eq!((huge("1e3").u64(), huge("-1").u64(), huge("-1").i64()), (None, None, Some(-1)));
    // Escaped or not, equal keys are equal.
    let mut reader = Reader::new(br#"{"a\u0062":1,"ab":2}"#);
    reader.enter(Event::Object).unwrap();
    let first = reader.key().unwrap();
    reader.skip_value().unwrap();
    assert!(reader.key().unwrap() == first && first == *"ab" && first != *"abc" && first.as_str().is_none());
    assert_eq!(first.copy_to(&mut [0; 2]), Some(&b"ab"[..]));
    assert_eq!(first.copy_to(&mut [0; 1]), None);
    // Skipping where no value comes is refused, not endless.
    let mut reader = Reader::new(b"[]");
    reader.enter(Event::Array).unwrap();
    let _ = reader.skip_value();
    assert!(reader.skip_value().is_err());
}
