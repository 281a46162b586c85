//! From an HTTP request to a socket: what is refused here never costs a connection.

use crate::connection::Connection;
use crate::hub::Hub;
use crate::limits::TICK_S;
use crate::link::Link;
use crate::socket::{Socket, Stream};
use bytes::Bytes;
use domain::UserId;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use runtime::access_tokens::LEEWAY_S;
use schemas::error_codes::Code;
use schemas::http::Problem;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Answers the request for a socket; on 101 the connection is served in a task of its own.
pub(crate) fn upgrade<B>(hub: &Arc<Hub>, mut request: Request<B>) -> Response<Full<Bytes>> {
    match admit(hub, &request) {
        Err((code, detail)) => problem(code, &detail),
        Ok((link, accept, identity)) => {
            let upgraded = hyper::upgrade::on(&mut request);
            hub.deps.tasks.spawn_light(serve_upgraded(Arc::clone(hub), link, upgraded, identity));
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            response
        }
    }
}

/// Who a token stands for, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) user: UserId,
    /// The tick from which the token is no longer good.
    pub(crate) expires_at: u32,
}

/// Who a token stands for, or what to tell the holder.
pub(crate) fn identify(hub: &Hub, token: &str) -> Result<Identity, String> {
    let claims = hub.verifier.verify(token).map_err(|error| error.to_string())?;
    let user = claims.sub.parse().map_err(|_| "the access token is not one of this server".to_owned())?;
    let left_s = (claims.exp + LEEWAY_S).saturating_sub(hub.deps.clock.now_ms() / 1_000);
    let ticks = u32::try_from(left_s / u64::from(TICK_S) + 1).unwrap_or(u32::MAX);
    Ok(Identity { user, expires_at: hub.tick.load(Ordering::Relaxed).saturating_add(ticks) })
}

type Admitted = (Arc<Link>, HeaderValue, Option<Identity>);

fn admit<B>(hub: &Hub, request: &Request<B>) -> Result<Admitted, (Code, String)> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err((Code::MethodNotAllowed, "a socket is opened with GET".into()));
    }
    let key = websocket_key(headers)?;
    if let Some(query) = request.uri().query()
        && query
            .split('&')
            .any(|part| ["token", "access_token", "bearer"].contains(&part.split('=').next().unwrap_or_default()))
    {
        return Err((
            Code::Unauthenticated,
            "a token in an address ends up in logs: send it in `hello` or in a header".into(),
        ));
    }
    if let Some(origin) = headers.get(ORIGIN)
        && !hub.config.origins.allow(origin, headers.get(HOST))
    {
        return Err((Code::OriginRefused, Code::OriginRefused.sentence().into()));
    }
    let identity = match headers.get(AUTHORIZATION) {
        None => None,
        Some(value) => {
            let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
            let token = token
                .ok_or_else(|| (Code::Unauthenticated, "the header is `Authorization: Bearer <token>`".to_owned()))?;
            Some(identify(hub, token).map_err(|problem| (Code::Unauthenticated, problem))?)
        }
    };
    if hub.process.get().is_none() {
        return Err((Code::RetryLater, "not ready yet".into()));
    }
    if hub.draining.load(Ordering::Acquire) {
        return Err((Code::GoAway, Code::GoAway.sentence().into()));
    }
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is a header value");
    let link = hub
        .admit()
        .ok_or_else(|| (Code::TooManySessions, "this server has as many connections as it takes".to_owned()))?;
    Ok((link, accept, identity))
}

fn websocket_key(headers: &HeaderMap) -> Result<&HeaderValue, (Code, String)> {
    let has = |name: HeaderName, wanted: &str| {
        let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted)))
    };
    if !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
        return Err((Code::Malformed, "this address is for WebSockets".into()));
    }
    if !has(SEC_WEBSOCKET_VERSION, "13") {
        return Err((Code::BadVersion, "WebSocket version 13 is spoken here".into()));
    }
    headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| (Code::Malformed, "no Sec-WebSocket-Key".to_owned()))
}

/// The refusal as a problem document.
pub(crate) fn problem(code: Code, detail: &str) -> Response<Full<Bytes>> {
    let retry_after_ms = matches!(code.number(), 4100..=4200).then_some(1_000);
    let problem = Problem {
        kind: format!("about:blank#{}", code.slug()),
        title: code.slug().to_owned(),
        status: code.http_status(),
        detail: detail.to_owned(),
        code: code.number(),
        retry_after_ms,
    };
    let body = serde_json::to_vec(&problem).expect("a problem has string keys");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(code.http_status()).expect("codes have valid statuses");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if retry_after_ms.is_some() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if code == Code::BadVersion {
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}

async fn serve_upgraded(hub: Arc<Hub>, link: Arc<Link>, upgraded: OnUpgrade, identity: Option<Identity>) {
    match upgraded.await {
        Ok(upgraded) => {
            let (stream, read) = unwrap(upgraded);
            serve(Connection::new(hub, link, Socket::new(stream, read), identity)).await;
        }
        Err(error) => {
            tracing::debug!(%error, "a client went away during its handshake");
            hub.leave(&link);
        }
    }
}

/// Serves a connection until it is closed.
pub(crate) async fn serve(mut connection: Connection) {
    poll_fn(|cx| connection.poll(cx)).await;
}

/// The bare stream, so that nothing of the HTTP connection (its read buffer above all) lives on.
fn unwrap(upgraded: Upgraded) -> (Stream, Vec<u8>) {
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let stream = parts.io.into_inner();
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "no TCP_NODELAY");
            }
            (Stream::Tcp(stream), parts.read_buf.to_vec())
        }
        Err(upgraded) => (Stream::Other(Box::new(TokioIo::new(upgraded))), Vec::new()),
    }
}
