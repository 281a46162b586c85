//! What happens when a promise of design §1 is found broken.

/// Reports a broken promise: panics in debug builds; in release logs at ERROR and counts
/// `hubbub_promise_violations_total{promise}`, and the caller goes on as best it can.
#[macro_export]
macro_rules! violated {
    ($promise:expr, $($what:tt)+) => {{
        let promise: domain::promise::Promise = $promise;
        metrics::counter!("hubbub_promise_violations_total", "promise" => promise.id()).increment(1);
        tracing::error!(promise = promise.id(), what = %format_args!($($what)+), "a promise is broken");
        if cfg!(debug_assertions) {
            panic!("{promise} violated: {}", format_args!($($what)+));
        }
    }};
}
