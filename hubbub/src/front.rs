//! The one port: sockets to the gateway, health to whoever watches, all else to the API.

use api::Api;
use gateway::Gateway;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use runtime::Health;
use runtime::health::Component;
use runtime::listener::Body;
use tower::ServiceExt as _;

const SOCKET: &str = "/api/v1/socket";
const GREETING: &str =
    "Hubbub is running. Talk from a terminal with `hubbub chat`; programs find the API under /api/v1.\n";

/// What answers requests. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    gateway: Gateway,
    api: Api,
    router: axum::Router,
    health: Health,
    gateway_health: Component,
    api_health: Component,
}

impl Front {
    pub(crate) fn new(gateway: Gateway, api: Api, health: Health) -> Self {
        let (gateway_health, api_health) = (health.component("gateway"), health.component("api"));
        let router = api.router();
        Self { gateway, api, router, health, gateway_health, api_health }
    }

    /// Answers one request.
    pub(crate) async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (_, SOCKET) => self.gateway.upgrade(request).map(boxed),
            (&Method::GET, "/healthz") => json(StatusCode::OK, r#"{"alive":true}"#.into()),
            (&Method::GET, "/readyz") => {
                self.look();
                let report = self.health.report();
                let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                json(status, serde_json::to_vec(&report).unwrap_or_default().into())
            }
            (&Method::GET, "/") => text(GREETING),
            _ => {
                let answered = self.router.oneshot(request.map(axum::body::Body::new)).await;
                answered.unwrap_or_else(|never| match never {}).map(|body| body.map_err(Into::into).boxed_unsync())
            }
        }
    }

    /// Asks the roles at the door how they are, for [`Health`].
    pub(crate) fn look(&self) {
        for (component, readiness) in
            [(&self.gateway_health, self.gateway.readiness()), (&self.api_health, self.api.readiness())]
        {
            match readiness {
                Ok(()) => component.ready(),
                Err(reason) => component.not_ready(reason),
            }
        }
    }
}

fn boxed(body: Full<Bytes>) -> Body {
    body.map_err(|never| match never {}).boxed_unsync()
}

fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(boxed(Full::new(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn text(body: &'static str) -> Response<Body> {
    let mut response = Response::new(boxed(Full::new(Bytes::from_static(body.as_bytes()))));
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
