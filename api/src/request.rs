//! What handlers take from a request: who asks, and a body; each refused with a problem document.

use crate::problem::Refused;
use crate::service::Shared;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use domain::{ChannelId, ClientMsgId, UserId};
use http::StatusCode;
use http::header::AUTHORIZATION;
use http::request::Parts;
use schemas::error_codes::Code;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Who asks, by their access token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person(pub(crate) UserId);

impl FromRequestParts<Arc<Shared>> for Person {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refused> {
        let header = parts.headers.get(AUTHORIZATION).ok_or(Code::Unauthenticated)?;
        let token = header.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let token = token
            .ok_or_else(|| Refused::new(Code::Unauthenticated, "the header is `Authorization: Bearer <token>`"))?;
        let claims =
            shared.verifier.verify(token).map_err(|error| Refused::new(Code::Unauthenticated, error.to_string()))?;
        let user = claims.sub.parse().map_err(|_| Refused::from(Code::Unauthenticated))?;
        Ok(Self(user))
    }
}

/// A JSON body. An empty one counts as `{}`.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Refused> {
        let bytes = Bytes::from_request(request, shared).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Refused::from(Code::TooLarge)
            } else {
                Refused::new(Code::Malformed, "the body ended early")
            }
        })?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| Refused::new(Code::Malformed, error.to_string()))
    }
}

/// The query.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Shared>> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refused> {
        let query = Query::<T>::from_request_parts(parts, shared).await;
        query.map(|Query(query)| Self(query)).map_err(|rejection| Refused::new(Code::Malformed, rejection.body_text()))
    }
}

/// The parts of the path.
#[derive(Debug)]
pub(crate) struct At<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Shared>> for At<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refused> {
        let path = Path::<T>::from_request_parts(parts, shared).await;
        path.map(|Path(path)| Self(path)).map_err(|rejection| Refused::new(Code::Malformed, rejection.body_text()))
    }
}

/// A channel's id. What is none names no channel.
pub(crate) fn channel(text: &str) -> Result<ChannelId, Refused> {
    text.parse().map_err(|_| Code::NotMember.into())
}

/// A person's id.
pub(crate) fn user(text: &str) -> Result<UserId, Refused> {
    let shown: String = text.chars().take(64).collect();
    text.parse().map_err(|_| Refused::new(Code::Malformed, format!("`{shown}` is no user id")))
}

/// The id of a command: the client's, or one made here.
pub(crate) fn command_id(shared: &Shared, text: Option<&str>) -> Result<ClientMsgId, Refused> {
    match text {
        None => Ok(ClientMsgId(shared.deps.entropy.uuid_v7(shared.server_time_ms()))),
        Some(text) => {
            let id: Option<ClientMsgId> = text.parse().ok();
            id.filter(|id| id.time().is_some())
                .ok_or_else(|| Refused::new(Code::Malformed, "`client_msg_id` is no UUID of version 7"))
        }
    }
}
