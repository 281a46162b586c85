//! Reads what a client sends: one pass over the text, borrowing from it; whatever it holds, the answer is a frame or a reason.

use crate::error_codes::Code;
use crate::frames::{ClientFrame, CursorFrame};
use domain::{ChannelId, ClientMsgId};
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// A client's frame with its ids read; texts are borrowed where JSON escapes allow it.
#[derive(Clone, Debug, PartialEq)]
pub enum Received<'a> {
    /// See [`ClientFrame::Hello`].
    Hello {
        /// The protocol version.
        v: u32,
        /// The access token.
        token: Option<Cow<'a, str>>,
        /// The client's cursors.
        cursors: BTreeMap<ChannelId, CursorFrame>,
    },
    /// See [`ClientFrame::Send`].
    Send {
        /// To which channel.
        channel: ChannelId,
        /// A UUIDv7.
        client_msg_id: ClientMsgId,
        /// The text.
        body: Cow<'a, str>,
        /// Sent before.
        retry: bool,
    },
    /// See [`ClientFrame::History`].
    History {
        /// Of which channel.
        channel: ChannelId,
        /// Echoed in the page.
        request: u64,
        /// The first seq wanted.
        first: Option<u64>,
        /// The last seq wanted.
        last: Option<u64>,
        /// At most so many.
        limit: Option<u32>,
    },
    /// See [`ClientFrame::Typing`].
    Typing {
        /// In which channel.
        channel: ChannelId,
    },
    /// See [`ClientFrame::Digest`].
    Digest,
    /// See [`ClientFrame::Ping`].
    Ping,
}

/// Why a text is no frame: what the `error` frame says. The connection lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// [`Code::Malformed`] or [`Code::UnknownType`].
    pub code: Code,
    /// For people.
    pub message: String,
    /// The send it is about, as far as it could be read.
    pub client_msg_id: Option<String>,
    /// The request it is about.
    pub request: Option<u64>,
}

impl Refusal {
    fn malformed(message: impl Into<String>) -> Self {
        Self { code: Code::Malformed, message: message.into(), client_msg_id: None, request: None }
    }
}

/// Every type a client may send, as `t` has it.
pub const CLIENT_TYPES: [&str; 6] = ["hello", "send", "history", "typing", "digest", "ping"];

/// Reads a client's frame.
pub fn receive(text: &str) -> Result<Received<'_>, Refusal> {
    // The flat shape is several times faster than serde's tagged enum, which buffers every value; it is only ever stricter, so
    // what it does not take is judged by the enum.
    if let Ok(flat) = serde_json::from_str::<Flat<'_>>(text)
        && let Some(frame) = flat.into_frame()
    {
        return Ok(frame);
    }
    let tag: Tag<'_> = serde_json::from_str(text).map_err(|error| Refusal::malformed(error.to_string()))?;
    if !CLIENT_TYPES.contains(&tag.t.0.as_ref()) {
        let shown: String = tag.t.0.chars().take(40).collect();
        return Err(Refusal { code: Code::UnknownType, ..Refusal::malformed(format!("no frame type `{shown}`")) });
    }
    let about = || -> Option<String> {
        let id: Option<OnlyId> = serde_json::from_str(text).ok();
        id.map(|id| id.client_msg_id.chars().take(64).collect())
    };
    let refuse = |message: String| Refusal { client_msg_id: about(), ..Refusal::malformed(message) };
    match serde_json::from_str::<ClientFrame>(text) {
        Err(error) => Err(refuse(error.to_string())),
        Ok(frame) => Received::from_owned(frame).map_err(refuse),
    }
}

impl Received<'_> {
    fn from_owned(frame: ClientFrame) -> Result<Self, String> {
        let channel_of = |text: &str| text.parse::<ChannelId>().map_err(|_| "`channel` is no UUID".to_owned());
        Ok(match frame {
            ClientFrame::Hello { v, token, cursors } => {
                let read = |(channel, cursor): (String, CursorFrame)| match channel.parse() {
                    Ok(channel) => Ok((channel, cursor)),
                    Err(_) => Err("a key of `cursors` is no UUID".to_owned()),
                };
                Self::Hello {
                    v,
                    token: token.map(Cow::Owned),
                    cursors: cursors.into_iter().map(read).collect::<Result<_, _>>()?,
                }
            }
            ClientFrame::Send { channel, client_msg_id, body, retry } => {
                let client_msg_id: ClientMsgId = client_msg_id.parse().map_err(|_| "`client_msg_id` is no UUID")?;
                if client_msg_id.time().is_none() {
                    return Err("`client_msg_id` is a UUID, but not of version 7".into());
                }
                Self::Send { channel: channel_of(&channel)?, client_msg_id, body: Cow::Owned(body), retry }
            }
            ClientFrame::History { channel, request, first, last, limit } => {
                Self::History { channel: channel_of(&channel)?, request, first, last, limit }
            }
            ClientFrame::Typing { channel } => Self::Typing { channel: channel_of(&channel)? },
            ClientFrame::Digest {} => Self::Digest,
            ClientFrame::Ping {} => Self::Ping,
        })
    }
}

/// All fields of the frames but hello's cursors, side by side.
#[derive(Deserialize)]
struct Flat<'a> {
    #[serde(borrow)]
    t: Text<'a>,
    #[serde(borrow, default)]
    channel: Option<Text<'a>>,
    #[serde(borrow, default)]
    client_msg_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    body: Option<Text<'a>>,
    #[serde(default)]
    retry: bool,
    #[serde(default)]
    request: Option<u64>,
    #[serde(default)]
    first: Option<u64>,
    #[serde(default)]
    last: Option<u64>,
    #[serde(default)]
    limit: Option<u32>,
}

impl<'a> Flat<'a> {
    fn into_frame(self) -> Option<Received<'a>> {
        let channel = || self.channel.as_ref()?.0.parse::<ChannelId>().ok();
        Some(match self.t.0.as_ref() {
            "send" => {
                let client_msg_id: ClientMsgId = self.client_msg_id.as_ref()?.0.parse().ok()?;
                client_msg_id.time()?;
                Received::Send { channel: channel()?, client_msg_id, body: self.body?.0, retry: self.retry }
            }
            "history" => Received::History {
                channel: channel()?,
                request: self.request?,
                first: self.first,
                last: self.last,
                limit: self.limit,
            },
            "typing" => Received::Typing { channel: channel()? },
            "digest" => Received::Digest,
            "ping" => Received::Ping,
            _ => return None,
        })
    }
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow)]
    t: Text<'a>,
}

#[derive(Deserialize)]
struct OnlyId {
    client_msg_id: String,
}

/// A string that borrows where it can. (serde borrows a bare `Cow`, but not one inside an `Option`.)
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const CHANNEL: &str = "0190a5f0-0000-7000-8000-000000000001";
    const ID: &str = "0190a5f0-0000-7000-8000-000000000002";

    #[test]
    fn a_send_borrows_its_body_and_keeps_it_byte_for_byte() {
        for (body, json) in [
            ("hello", "hello"),
            ("", ""),
            (" \u{0} ", " \\u0000 "),
            ("😀", "\\ud83d\\ude00"),
            ("\u{202e}e\u{301}", "\u{202e}e\u{301}"),
        ] {
            let text = format!(r#"{{"t":"send","channel":"{CHANNEL}","client_msg_id":"{ID}","body":"{json}"}}"#);
            let Received::Send { body: read, retry, channel, .. } = receive(&text).unwrap() else { panic!("{text}") };
            assert_eq!(read, body);
            assert_eq!(matches!(read, Cow::Borrowed(_)), !json.contains('\\'), "{json}");
            assert_eq!((retry, channel), (false, CHANNEL.parse().unwrap()));
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_a_frame_or_a_reason(text in ".*", start in 0..CLIENT_TYPES.len(), value in "[0-9\\[\\]{}\",:a-z\\\\]*") {
            let near = format!(r#"{{"t":"{}","channel":{value}}}"#, CLIENT_TYPES[start]);
            for text in [&text, &near] {
                if let Err(refusal) = receive(text) {
                    assert!([Code::Malformed, Code::UnknownType].contains(&refusal.code));
                }
            }
        }

        #[test]
        fn a_body_of_any_text_comes_out_as_it_went_in(body in "\\PC*|.*") {
            let frame = ClientFrame::Send { channel: CHANNEL.into(), client_msg_id: ID.into(), body: body.clone(), retry: true };
            let text = serde_json::to_string(&frame).unwrap();
            let Received::Send { body: read, retry: true, .. } = receive(&text).unwrap() else { panic!("{text}") };
            assert_eq!(read, body);
        }
    }

    #[test]
    fn unknown_and_foreign_fields_are_ignored() {
        for text in [
            r#"{"t":"ping","new":{"deep":[1,{}]}}"#,
            r#"{"t":"ping","body":5,"channel":null}"#,
            r#"{"t":"ping","retry":"x"}"#,
        ] {
            assert_eq!(receive(text), Ok(Received::Ping), "{text}");
        }
    }

    #[test]
    fn a_hello_has_its_cursors_by_channel() {
        let text = format!(r#"{{"t":"hello","v":1,"token":"x","cursors":{{"{CHANNEL}":{{"generation":1,"seq":7}}}}}}"#);
        let Received::Hello { v: 1, token: Some(token), cursors } = receive(&text).unwrap() else { panic!("{text}") };
        assert_eq!(token, "x");
        assert_eq!(cursors[&CHANNEL.parse().unwrap()], CursorFrame { generation: 1, seq: 7 });
    }

    #[test]
    fn what_is_no_frame_gets_a_reason() {
        let deep = "[".repeat(100_000);
        let cases: &[(&str, Code)] = &[
            ("", Code::Malformed),
            ("{", Code::Malformed),
            ("null", Code::Malformed),
            ("[]", Code::Malformed),
            ("{}", Code::Malformed),
            (r#"{"t":5}"#, Code::Malformed),
            (r#"{"t":"send"}"#, Code::Malformed),
            (r#"{"t":"ping"} x"#, Code::Malformed),
            (&deep, Code::Malformed),
            (r#"{"t":"dance"}"#, Code::UnknownType),
            (r#"{"t":"SEND"}"#, Code::UnknownType),
            (r#"{"t":"dance","body":5}"#, Code::UnknownType),
            (r#"{"t":"hello","v":1,"cursors":{"x":{"generation":1,"seq":1}}}"#, Code::Malformed),
            (r#"{"t":"hello","v":-1}"#, Code::Malformed),
            (r#"{"t":"typing","channel":"x"}"#, Code::Malformed),
        ];
        for (text, code) in cases {
            assert_eq!(receive(text).unwrap_err().code, *code, "{}", &text[..text.len().min(60)]);
        }
    }

    #[test]
    fn a_refused_send_names_the_id_it_is_about() {
        let v4 = "6f1b1ac6-38f4-4c0f-9c1e-0d1f7f3d8f44";
        for (text, id) in [
            (format!(r#"{{"t":"send","channel":"x","client_msg_id":"{ID}","body":""}}"#), ID),
            (format!(r#"{{"t":"send","channel":"{CHANNEL}","client_msg_id":"{ID}","body":5}}"#), ID),
            (format!(r#"{{"t":"send","channel":"{CHANNEL}","client_msg_id":"{v4}","body":""}}"#), v4),
        ] {
            let refusal = receive(&text).unwrap_err();
            assert_eq!((refusal.code, refusal.client_msg_id.as_deref()), (Code::Malformed, Some(id)), "{text}");
        }
        // A lone surrogate makes the whole text no JSON of strings: nothing in it can be believed.
        let lone = format!(r#"{{"t":"send","channel":"{CHANNEL}","client_msg_id":"{ID}","body":"\ud800"}}"#);
        assert_eq!(receive(&lone).unwrap_err().code, Code::Malformed);
    }
}
