//! Refusals: an outside message for the client (RFC 9457), an inside one for the log.

use crate::limits::OUTCOME_WITHIN;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use schemas::error_codes::Code;
use schemas::http::Problem;
use timeline::AskError;

/// Why a request was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    code: Code,
    detail: String,
    retry_after_ms: Option<u64>,
}

/// What handlers give.
pub(crate) type Answer<T> = Result<T, Refused>;

impl Refused {
    /// With a detail for people.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after_ms = (4100..4200).contains(&code.number()).then_some(1_000);
        Self { code, detail: detail.into(), retry_after_ms }
    }

    /// What it is.
    #[cfg(test)]
    pub(crate) fn code(&self) -> Code {
        self.code
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Self::new(code, code.sentence())
    }
}

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        match error.kind() {
            store::ErrorKind::Exists => Code::AlreadyExists.into(),
            store::ErrorKind::NotFound => Code::NotFound.into(),
            store::ErrorKind::Full => Code::StorageFull.into(),
            store::ErrorKind::Unavailable => {
                tracing::warn!(%error, "the store does not answer");
                Code::RetryLater.into()
            }
            store::ErrorKind::Damaged => {
                tracing::error!(%error, "the store is damaged");
                Code::Internal.into()
            }
        }
    }
}

impl From<AskError> for Refused {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Busy => Code::RetryLater.into(),
            AskError::TimedOut(_) => Self::new(
                Code::TimedOut,
                format!(
                    "no outcome within {} s; it may have happened: send it again with the same client_msg_id",
                    OUTCOME_WITHIN.as_secs()
                ),
            ),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { code, detail, retry_after_ms } = self;
        let problem = Problem {
            kind: format!("about:blank#{}", code.slug()),
            title: code.slug().to_owned(),
            status: code.http_status(),
            detail,
            code: code.number(),
            retry_after_ms,
        };
        let body = serde_json::to_vec(&problem).expect("a problem has string keys");
        let status = StatusCode::from_u16(code.http_status()).expect("codes have valid statuses");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(ms) = retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
        if code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        metrics::counter!("hubbub_api_refused_total", "code" => code.slug()).increment(1);
        response
    }
}
