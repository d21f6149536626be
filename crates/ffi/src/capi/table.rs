//! Contexts by id. C callers hold integers, so something must map them: this table, which holds nothing but
//! configurations that have not been started.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::context::Context;
use super::guard::Failure;

struct Table {
    contexts: BTreeMap<u32, Context>,
    next: u32,
}

static TABLE: Mutex<Table> = Mutex::new(Table { contexts: BTreeMap::new(), next: 0 });

fn lock() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unknown(id: u32) -> Failure {
    Failure::new(libc::ENOENT, format!("context {id} does not exist"))
}

/// Adds a context. Ids count up from 0 and are never used again.
pub(super) fn insert(context: Context) -> Result<i32, Failure> {
    let mut table = lock();
    let id = i32::try_from(table.next).map_err(|_| Failure::new(libc::ENOMEM, "no context ids are left"))?;
    let key = table.next;
    table.next = key.saturating_add(1);
    table.contexts.insert(key, context);
    Ok(id)
}

/// Changes a context, or fails with `ENOENT`. Calls of several threads are one after another.
pub(super) fn with<T>(
    id: u32,
    change: impl FnOnce(&mut Context) -> Result<T, Failure>,
) -> Result<T, Failure> {
    change(lock().contexts.get_mut(&id).ok_or_else(|| unknown(id))?)
}

/// As [`with`], for changes that cannot fail.
pub(super) fn update(id: u32, change: impl FnOnce(&mut Context)) -> Result<(), Failure> {
    with(id, |context| {
        change(context);
        Ok(())
    })
}

/// Takes a context out; its id is dead afterwards.
pub(super) fn take(id: u32) -> Result<Context, Failure> {
    lock().contexts.remove(&id).ok_or_else(|| unknown(id))
}
