//! The embedded store passes the contract of the state seam.

use std::sync::Mutex;
use store::contract::Factory;
use store_embedded::{EmbeddedStore, Options};
use tempfile::TempDir;

/// Stores in directories that live as long as the test.
#[derive(Default)]
struct InDirectories(Mutex<Vec<TempDir>>);

impl Factory for InDirectories {
    type Store = EmbeddedStore;

    async fn make(&self) -> EmbeddedStore {
        let dir = TempDir::new().expect("a directory");
        let store = EmbeddedStore::open(dir.path(), &Options::default()).expect("open");
        self.0.lock().expect("unpoisoned").push(dir);
        store
    }

    async fn reopen(&self, store: EmbeddedStore) -> EmbeddedStore {
        drop(store);
        let dirs = self.0.lock().expect("unpoisoned");
        EmbeddedStore::open(dirs.last().expect("made before").path(), &Options::default()).expect("open again")
    }
}

store::contract_tests!(#[tokio::test] => InDirectories::default());
