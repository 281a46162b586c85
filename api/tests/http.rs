//! What the API answers where no command is needed: accounts, profiles, keys, and every way to be refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use api::{Api, Config, Deps};
use axum::Router;
use axum::body::Body;
use domain::{ChannelId, UserId};
use eventlog::{
    Append, AppendError, AppendTime, Appended, Bounds, Error, EventLog, LogOffset, Membership, PartitionReader, Record,
    Topic, TopicDescription, TopicPartition, TopicSpec,
};
use futures_util::future::BoxFuture;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use runtime::access_tokens::{Signer, generate_pkcs8};
use runtime::{Entropy, SystemClock, Tasks};
use schemas::error_codes::Code;
use schemas::http::{Problem, SignedIn, UserView};
use schemas::records::decode_profile;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use store::{
    Account, Accounts, ChannelSummary, ErrorKind, MemberRow, MembershipRow, Memberships, NewAccount, Page, PageQuery,
    SignIn, Timelines,
};
use timeline::{ProcessConfig, Topology};
use tower::ServiceExt;
use uuid::Uuid;

/// Takes everything and gives nothing back.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<(String, Record)>>);

impl EventLog for Log {
    fn create_topic<'a>(&'a self, _: &'a TopicSpec) -> BoxFuture<'a, Result<TopicDescription, Error>> {
        unreachable!("nothing here runs")
    }

    fn delete_topic<'a>(&'a self, _: &'a Topic) -> BoxFuture<'a, Result<(), Error>> {
        unreachable!("nothing here runs")
    }

    fn describe<'a>(&'a self, _: &'a Topic) -> BoxFuture<'a, Result<Option<TopicDescription>, Error>> {
        unreachable!("nothing here runs")
    }

    fn append(&self, to: &TopicPartition, records: Vec<Record>) -> Result<Append, AppendError> {
        self.0.lock().unwrap().extend(records.into_iter().map(|record| (to.topic.to_string(), record)));
        Ok(Box::pin(async { Ok(Appended { first: LogOffset(0), time: AppendTime(0) }) }))
    }

    fn read<'a>(
        &'a self,
        _: &'a TopicPartition,
        _: LogOffset,
    ) -> BoxFuture<'a, Result<Box<dyn PartitionReader>, Error>> {
        unreachable!("nothing here runs")
    }

    fn bounds<'a>(&'a self, _: &'a TopicPartition) -> BoxFuture<'a, Result<Bounds, Error>> {
        unreachable!("nothing here runs")
    }

    fn offset_at<'a>(&'a self, _: &'a TopicPartition, _: AppendTime) -> BoxFuture<'a, Result<LogOffset, Error>> {
        unreachable!("nothing here runs")
    }

    fn join<'a>(&'a self, _: &'a str, _: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Membership>, Error>> {
        unreachable!("nothing here runs")
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

/// People, and no channels.
#[derive(Debug, Default)]
struct People {
    accounts: Mutex<Vec<NewAccount>>,
    sign_ins: Mutex<Vec<SignIn>>,
}

impl People {
    fn find(&self, wanted: impl Fn(&NewAccount) -> bool) -> Option<NewAccount> {
        self.accounts.lock().unwrap().iter().find(|account| wanted(account)).cloned()
    }
}

fn shown(new: NewAccount) -> Account {
    Account { user: new.user, username: new.username, display_name: new.display_name, created_ms: new.created_ms }
}

impl Accounts for People {
    fn create_account<'a>(&'a self, account: &'a NewAccount) -> BoxFuture<'a, Result<(), store::Error>> {
        Box::pin(async move {
            if self.find(|other| other.username == account.username).is_some() {
                return Err(store::Error::new(ErrorKind::Exists, "taken"));
            }
            self.accounts.lock().unwrap().push(account.clone());
            Ok(())
        })
    }

    fn create_accounts<'a>(&'a self, _: &'a [NewAccount]) -> BoxFuture<'a, Result<usize, store::Error>> {
        unreachable!("for tools")
    }

    fn account(&self, user: UserId) -> BoxFuture<'_, Result<Option<Account>, store::Error>> {
        Box::pin(async move { Ok(self.find(|account| account.user == user).map(shown)) })
    }

    fn account_by_name<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<Option<Account>, store::Error>> {
        Box::pin(async move { Ok(self.find(|account| account.username == username).map(shown)) })
    }

    fn password_hash(&self, user: UserId) -> BoxFuture<'_, Result<Option<String>, store::Error>> {
        Box::pin(async move { Ok(self.find(|account| account.user == user).and_then(|account| account.password_hash)) })
    }

    fn rename<'a>(&'a self, user: UserId, display_name: &'a str) -> BoxFuture<'a, Result<(), store::Error>> {
        Box::pin(async move {
            let mut accounts = self.accounts.lock().unwrap();
            let account = accounts.iter_mut().find(|account| account.user == user);
            let account = account.ok_or_else(|| store::Error::new(ErrorKind::NotFound, "nobody"))?;
            display_name.clone_into(&mut account.display_name);
            Ok(())
        })
    }

    fn record_sign_in<'a>(&'a self, sign_in: &'a SignIn) -> BoxFuture<'a, Result<(), store::Error>> {
        self.sign_ins.lock().unwrap().push(sign_in.clone());
        Box::pin(async { Ok(()) })
    }

    fn sign_in(&self, _: Uuid) -> BoxFuture<'_, Result<Option<SignIn>, store::Error>> {
        unreachable!("nobody asks")
    }
}

impl Timelines for People {
    fn page<'a>(&'a self, _: &'a PageQuery) -> BoxFuture<'a, Result<Page, store::Error>> {
        Box::pin(async { Ok(Page { events: Arc::default() }) })
    }

    fn summaries<'a>(&'a self, _: &'a [ChannelId]) -> BoxFuture<'a, Result<Vec<ChannelSummary>, store::Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

impl Memberships for People {
    fn members_of(&self, _: ChannelId) -> BoxFuture<'_, Result<Vec<MemberRow>, store::Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn stays(&self, _: ChannelId, _: UserId) -> BoxFuture<'_, Result<Vec<MemberRow>, store::Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn channels_of(&self, _: UserId) -> BoxFuture<'_, Result<Vec<MembershipRow>, store::Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

struct World {
    log: Arc<Log>,
    people: Arc<People>,
    router: Router,
}

impl World {
    fn new() -> Self {
        let (clock, entropy) = (Arc::new(SystemClock), Entropy::from_seed(3));
        let signer = Arc::new(Signer::from_pkcs8(&generate_pkcs8(&entropy), clock.clone()).unwrap());
        let process = ProcessConfig { id: "api-1".into(), url: String::new(), region: String::new(), capacity: 0 };
        let config = Config::new(process, Topology { partitions: 1 }, vec![signer.public().clone()]);
        let (log, people) = (Arc::new(Log::default()), Arc::new(People::default()));
        let deps = Deps {
            log: log.clone(),
            accounts: people.clone(),
            timelines: people.clone(),
            memberships: people.clone(),
            signer,
            clock,
            entropy,
            tasks: Tasks::new(),
        };
        let router = Api::new(config, deps).unwrap().router();
        Self { log, people, router }
    }

    async fn ask(&self, method: Method, path: &str, token: Option<&str>, body: impl Into<Body>) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let status = response.status();
        assert!(response.headers().contains_key("hubbub-server-time"));
        let kind = response.headers()["content-type"].clone();
        let expected = if status.is_success() { "application/json" } else { "application/problem+json" };
        assert_eq!(kind, expected, "{path}: {status}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.ask(Method::POST, path, None, body.to_string()).await
    }

    async fn sign_up(&self, username: &str) -> SignedIn {
        let (status, body) = self.post("/accounts", &json!({"username": username, "password": "correct horse"})).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        serde_json::from_value(body).unwrap()
    }
}

fn code(body: &Value) -> Code {
    let problem: Problem = serde_json::from_value(body.clone()).unwrap();
    let code = Code::try_from(problem.code).unwrap();
    assert_eq!((problem.title.as_str(), problem.status), (code.slug(), code.http_status()), "{body}");
    code
}

#[tokio::test]
async fn a_person_signs_up_signs_in_and_changes_their_name() {
    let world = World::new();
    let ann = world.sign_up("ann").await;
    assert_eq!(ann.user.display_name, "ann");
    let (status, body) = world.post("/sessions", &json!({"username": "ann", "password": "correct horse"})).await;
    assert_eq!(status, StatusCode::CREATED);
    let token = serde_json::from_value::<SignedIn>(body).unwrap().access_token;
    let (_, me) = world.ask(Method::GET, "/me", Some(&token), "").await;
    assert_eq!(serde_json::from_value::<UserView>(me).unwrap(), ann.user);
    let (_, me) = world.ask(Method::PATCH, "/me", Some(&token), r#"{"display_name":"Ann 🦀"}"#).await;
    assert_eq!(me["display_name"], "Ann 🦀");
    for path in ["/users?username=ann".to_owned(), format!("/users?id={}", ann.user.id)] {
        assert_eq!(world.ask(Method::GET, &path, Some(&token), "").await.1, me);
    }
    assert_eq!(world.people.sign_ins.lock().unwrap().len(), 2);
    let log = world.log.0.lock().unwrap();
    let names: Vec<String> = log
        .iter()
        .map(|(topic, record)| {
            assert_eq!(topic, schemas::topics::USERS);
            decode_profile(record.value.as_ref().unwrap()).unwrap().display_name
        })
        .collect();
    assert_eq!(names, ["ann", "Ann 🦀"]);
}

#[tokio::test]
async fn the_keys_verify_what_was_issued() {
    let world = World::new();
    let (_, keys) = world.ask(Method::GET, "/keys", None, "").await;
    let key = &keys["keys"][0];
    assert_eq!((&key["kty"], &key["crv"], &key["alg"]), (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA")));
}

#[tokio::test]
async fn who_is_not_who_they_say_is_refused_alike() {
    let world = World::new();
    world.sign_up("ann").await;
    let (_, wrong) = world.post("/sessions", &json!({"username": "ann", "password": "wrong horse"})).await;
    let (_, nobody) = world.post("/sessions", &json!({"username": "bob", "password": "wrong horse"})).await;
    assert_eq!((code(&wrong), &wrong), (Code::Unauthenticated, &nobody));
    let (_, taken) = world.post("/accounts", &json!({"username": "ann", "password": "correct horse"})).await;
    assert_eq!(code(&taken), Code::AlreadyExists);
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let world = World::new();
    let token = world.sign_up("ann").await.access_token;
    let token = Some(token.as_str());
    let room = "/channels/018f0000-0000-7000-8000-000000000001";
    let large = " ".repeat(api::limits::REQUEST_BODY_BYTES_MAX + 1);
    let account = |name: &str, password: &str| json!({"username": name, "password": password}).to_string();
    let cases: Vec<(Method, String, Option<&str>, String, Code)> = vec![
        (Method::GET, "/nothing".into(), None, String::new(), Code::NotFound),
        (Method::DELETE, "/me".into(), token, String::new(), Code::MethodNotAllowed),
        (Method::GET, "/accounts".into(), None, String::new(), Code::MethodNotAllowed),
        (Method::GET, "/me".into(), None, String::new(), Code::Unauthenticated),
        (Method::GET, "/me".into(), Some("x.y.z"), String::new(), Code::Unauthenticated),
        (Method::POST, "/accounts".into(), None, large, Code::TooLarge),
        (Method::POST, "/accounts".into(), None, String::new(), Code::Malformed),
        (Method::POST, "/accounts".into(), None, "{".into(), Code::Malformed),
        (Method::POST, "/accounts".into(), None, "\"\\ud800\"".into(), Code::Malformed),
        (Method::POST, "/accounts".into(), None, account("Ann", "correct horse"), Code::BadBody),
        (Method::POST, "/accounts".into(), None, account("bob\0", "correct horse"), Code::BadBody),
        (Method::POST, "/accounts".into(), None, account("bob", "short"), Code::BadBody),
        (Method::POST, "/accounts".into(), None, account("bob", &"x".repeat(2_000)), Code::BadBody),
        (Method::PATCH, "/me".into(), token, r#"{"display_name":" "}"#.into(), Code::BadBody),
        (Method::GET, "/users".into(), token, String::new(), Code::Malformed),
        (Method::GET, "/users?username=bob".into(), token, String::new(), Code::NotFound),
        (Method::GET, "/users?id=bob".into(), token, String::new(), Code::Malformed),
        (Method::POST, "/channels".into(), token, r#"{"kind":"secret"}"#.into(), Code::Malformed),
        (Method::POST, "/channels".into(), token, r#"{"kind":"direct"}"#.into(), Code::Malformed),
        (Method::POST, "/channels".into(), token, r#"{"kind":"group","members":["bob"]}"#.into(), Code::Malformed),
        (Method::POST, "/channels".into(), token, r#"{"kind":"group","client_msg_id":"1"}"#.into(), Code::Malformed),
        (
            Method::POST,
            "/channels".into(),
            token,
            r#"{"kind":"group","members":["018f0000-0000-7000-8000-000000000009"]}"#.into(),
            Code::NotFound,
        ),
        (
            Method::POST,
            "/channels".into(),
            token,
            json!({"kind": "group", "title": "x".repeat(300)}).to_string(),
            Code::BadBody,
        ),
        // The own topic is not open: changes wait, reads are served.
        (Method::POST, "/channels".into(), token, r#"{"kind":"group"}"#.into(), Code::RetryLater),
        (Method::GET, format!("{room}/members"), token, String::new(), Code::NotMember),
        (Method::GET, format!("{room}/messages"), token, String::new(), Code::NotMember),
        (Method::GET, format!("{room}/messages?first=-1"), token, String::new(), Code::Malformed),
        (Method::GET, "/channels/room/messages".into(), token, String::new(), Code::NotMember),
        (Method::GET, "/channels/%ff/messages".into(), token, String::new(), Code::Malformed),
        (Method::DELETE, format!("{room}/members/bob"), token, String::new(), Code::Malformed),
    ];
    for (method, path, token, body, expected) in cases {
        let (status, answer) = world.ask(method.clone(), &path, token, body).await;
        assert_eq!(code(&answer), expected, "{method} {path}: {answer}");
        assert_eq!(status.as_u16(), expected.http_status());
    }
    let (status, channels) = world.ask(Method::GET, "/channels", token, "").await;
    assert_eq!((status, channels), (StatusCode::OK, json!([])));
}
