//! Accounts and sign-ins: written one transaction for all that has gathered, read by key.

use crate::failure::{Failure, File};
use crate::lane::Sink;
use domain::UserId;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use store::{Account, ErrorKind, NewAccount, SignIn};
use uuid::Uuid;

/// What comes to the writer of records.
#[derive(Debug)]
pub(crate) enum Work {
    Create(NewAccount),
    CreateMany(Vec<NewAccount>),
    Rename(UserId, String),
    SignIn(SignIn),
}

/// The writer of records; remembers nothing.
#[derive(Debug)]
pub(crate) struct Records;

impl Sink for Records {
    type Work = Work;

    fn rows(work: &Work) -> usize {
        if let Work::CreateMany(accounts) = work { accounts.len().max(1) } else { 1 }
    }

    fn write(&mut self, connection: &mut Connection, group: &[Work]) -> Result<Vec<Result<usize, Failure>>, Failure> {
        let mut tx = connection.transaction().map_err(sqlite)?;
        let mut results = Vec::with_capacity(group.len());
        for work in group {
            // Each call stands for itself: a taken name leaves nothing behind.
            let savepoint = tx.savepoint().map_err(sqlite)?;
            let result = write(&savepoint, work);
            if result.is_ok() {
                savepoint.commit().map_err(sqlite)?;
            } else {
                drop(savepoint);
            }
            match result {
                Err(failure) if !matches!(failure.kind(), ErrorKind::Exists | ErrorKind::NotFound) => {
                    return Err(failure);
                }
                told => results.push(told),
            }
        }
        tx.commit().map_err(sqlite)?;
        Ok(results)
    }

    fn rest(&mut self, _connection: &mut Connection, _rows: usize) {}
}

fn write(tx: &Connection, work: &Work) -> Result<usize, Failure> {
    match work {
        Work::Create(account) => {
            if create(tx, account)? {
                Ok(1)
            } else {
                Err(Failure::new(ErrorKind::Exists, format!("the username {:?} or the id is taken", account.username)))
            }
        }
        Work::CreateMany(accounts) => {
            let mut new = 0;
            for account in accounts {
                new += usize::from(create(tx, account)?);
            }
            Ok(new)
        }
        Work::Rename(user, display_name) => {
            let changed = tx
                .prepare_cached("UPDATE users SET display_name = ?2 WHERE user = ?1")
                .and_then(|mut update| update.execute(params![user.as_bytes(), display_name]))
                .map_err(sqlite)?;
            if changed == 0 {
                return Err(Failure::new(ErrorKind::NotFound, format!("there is no account {user}")));
            }
            Ok(changed)
        }
        Work::SignIn(sign_in) => tx
            .prepare_cached(
                "INSERT INTO sign_ins VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET revoked_ms = coalesce(revoked_ms, excluded.revoked_ms)",
            )
            .and_then(|mut insert| {
                insert.execute(params![
                    sign_in.id.as_bytes(),
                    sign_in.user.as_bytes(),
                    sign_in.created_ms as i64,
                    sign_in.revoked_ms.map(|ms| ms as i64),
                ])
            })
            .map_err(sqlite),
    }
}

/// Whether it is new. A taken name or id is the primary key's or the index's to find, so two at once can't both pass.
fn create(tx: &Connection, account: &NewAccount) -> Result<bool, Failure> {
    let inserted = tx.prepare_cached("INSERT INTO users VALUES (?1, ?2, ?3, ?4)").and_then(|mut insert| {
        insert.execute(params![
            account.user.as_bytes(),
            account.username,
            account.display_name,
            account.created_ms as i64
        ])
    });
    match inserted {
        Err(rusqlite::Error::SqliteFailure(code, _)) if code.code == ErrorCode::ConstraintViolation => {
            return Ok(false);
        }
        other => other.map_err(sqlite)?,
    };
    if let Some(hash) = &account.password_hash {
        tx.prepare_cached("INSERT INTO credentials VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![account.user.as_bytes(), hash]))
            .map_err(sqlite)?;
    }
    Ok(true)
}

pub(crate) fn account(connection: &mut Connection, user: UserId) -> Result<Option<Account>, Failure> {
    connection
        .prepare_cached("SELECT user, username, display_name, created_ms FROM users WHERE user = ?1")
        .and_then(|mut select| select.query_row([user.as_bytes()], read_account).optional())
        .map_err(sqlite)
}

pub(crate) fn account_by_name(connection: &mut Connection, username: &str) -> Result<Option<Account>, Failure> {
    connection
        .prepare_cached("SELECT user, username, display_name, created_ms FROM users WHERE username = ?1")
        .and_then(|mut select| select.query_row([username], read_account).optional())
        .map_err(sqlite)
}

fn read_account(row: &rusqlite::Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        user: UserId::from_bytes(row.get(0)?),
        username: row.get(1)?,
        display_name: row.get(2)?,
        created_ms: row.get::<_, i64>(3)? as u64,
    })
}

pub(crate) fn password_hash(connection: &mut Connection, user: UserId) -> Result<Option<String>, Failure> {
    connection
        .prepare_cached("SELECT password_hash FROM credentials WHERE user = ?1")
        .and_then(|mut select| select.query_row([user.as_bytes()], |row| row.get(0)).optional())
        .map_err(sqlite)
}

pub(crate) fn sign_in(connection: &mut Connection, id: Uuid) -> Result<Option<SignIn>, Failure> {
    connection
        .prepare_cached("SELECT user, created_ms, revoked_ms FROM sign_ins WHERE id = ?1")
        .and_then(|mut select| {
            select
                .query_row([id.as_bytes()], |row| {
                    Ok(SignIn {
                        id,
                        user: UserId::from_bytes(row.get(0)?),
                        created_ms: row.get::<_, i64>(1)? as u64,
                        revoked_ms: row.get::<_, Option<i64>>(2)?.map(|ms| ms as u64),
                    })
                })
                .optional()
        })
        .map_err(sqlite)
}

fn sqlite(error: rusqlite::Error) -> Failure {
    Failure::of_sqlite(File::Records, error)
}
