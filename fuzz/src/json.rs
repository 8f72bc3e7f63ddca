//! The JSON reader against serde_json: the same texts are JSON, and mean the same.

use dsv4_core::error::{Error, Result};
use dsv4_core::format::json::{DEPTH, Event, Reader};
use serde_json::Value;

/// Any bytes.
pub fn check(data: &[u8]) {
    let ours = read(data);
    match serde_json::from_slice::<Value>(data) {
        Ok(theirs) => match ours {
            Ok(ours) => assert_eq!(ours, theirs),
            Err(error) => panic!("refused: {error:?}"),
        },
        // serde_json gives up one level sooner, and on numbers past f64 that the grammar allows.
        Err(error) if error.to_string().starts_with("recursion limit") => {}
        Err(error) if error.to_string().starts_with("number out of range") => {}
        Err(error) => assert!(ours.is_err(), "serde_json refuses this: {error}"),
    }
    // A reader that has failed may be asked again, and comes to an end.
    let mut reader = Reader::new(data);
    let mut steps = 0;
    while reader.event().is_ok_and(|event| event != Event::End) {
        assert!(reader.offset() <= data.len());
        steps += 1;
        assert!(steps <= 2 * data.len(), "more events than bytes can hold");
    }
    let _ = reader.event();
}

/// The text's value, which `skip_value` must find as long.
fn read(text: &[u8]) -> Result<Value> {
    let mut reader = Reader::new(text);
    let mut skipping = reader;
    let event = reader.event()?;
    let value = value(event, &mut reader, 0)?;
    if reader.event()? != Event::End {
        return Err(reader.error());
    }
    assert_eq!(skipping.skip_value(), Ok(()));
    assert_eq!(skipping.event(), Ok(Event::End));
    Ok(value)
}

fn value(event: Event<'_>, reader: &mut Reader<'_>, depth: u32) -> Result<Value> {
    assert!(depth <= DEPTH);
    Ok(match event {
        Event::Null => Value::Null,
        Event::Bool(b) => b.into(),
        Event::Text(text) => {
            let string: String = text.chars().collect();
            let mut buffer = vec![0; string.len()];
            assert_eq!(text.copy_to(&mut buffer), Some(string.as_bytes()));
            assert!(text == *string);
            string.into()
        }
        Event::Number(n) => match (n.u64(), n.i64()) {
            (Some(n), _) => n.into(),
            // serde_json reads -0 as a float.
            (_, Some(n)) if n != 0 => n.into(),
            _ => n.f64().ok_or(Error::BadJson { at: 0 })?.into(),
        },
        Event::Array => {
            let mut array = vec![];
            while reader.more()? {
                let event = reader.event()?;
                array.push(value(event, reader, depth + 1)?);
            }
            array.into()
        }
        Event::Object => {
            let mut object = serde_json::Map::new();
            while reader.more()? {
                let key = reader.key()?.chars().collect();
                let event = reader.event()?;
                object.insert(key, value(event, reader, depth + 1)?);
            }
            object.into()
        }
        Event::Key(_) | Event::ArrayEnd | Event::ObjectEnd | Event::End => return Err(reader.error()),
    })
}
