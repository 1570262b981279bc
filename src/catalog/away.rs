//! Why the database couldn't do what it was asked, and whether it may later.

use std::fmt;

use sqlx::mysql::MySqlDatabaseError;

/// What a database says that refuses a login, whichever it is: SQLSTATE, class 28.
const REFUSED: [&str; 2] = ["28000", "28P01"];

/// Why nothing can be asked of the database; never holds a password.
#[derive(Clone, Debug)]
pub struct Away {
    words: String,
    /// Whether the database may be there again later.
    gone: bool,
}

/// Whether the database refuses a login.
pub(super) fn is_refused(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.code().is_some_and(|code| REFUSED.contains(&&*code))
}

/// What `error` comes to.
pub(super) fn away(error: &sqlx::Error) -> Away {
    match error {
        sqlx::Error::PoolTimedOut => Away::gone("no connection in time"),
        // What the database itself says it has to be there for, but for what it says as it goes.
        sqlx::Error::Database(said)
            if !is_read_only(error) && !is_busy(error) && !said.code().is_some_and(|code| is_leaving(&code)) =>
        {
            Away::new(said.to_string())
        }
        sqlx::Error::RowNotFound => Away::new("a row is missing"),
        sqlx::Error::Database(said) => Away::gone(said.to_string()),
        error => Away::gone(crate::fault::chain(error)),
    }
}

/// Whether it is there, and has no room or no time just now: PostgreSQL's class 53, deadlocks and
/// what can't be put in an order, `SQLITE_BUSY` and `SQLITE_FULL`.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(said) = error else { return false };
    said.code().is_some_and(|code| code.starts_with("53") || ["40001", "40P01", "5", "13"].contains(&&*code))
}

/// SQLSTATEs of a server that ends the connection, is stopping or starting: PostgreSQL's class 57,
/// class 08 of both, MySQL's 1927.
fn is_leaving(code: &str) -> bool {
    code.starts_with("57P") || code.starts_with("08") || code == "70100"
}

/// Whether the server takes no writes, as after a failover: PostgreSQL's 25006, MySQL's 1290 and
/// 1792.
pub(super) fn is_read_only(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(said) = error else { return false };
    let number = said.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
    number.map_or_else(|| said.code().is_some_and(|code| code == "25006"), |number| [1290, 1792].contains(&number))
}

impl Away {
    pub(super) fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), gone: false }
    }

    pub(super) fn gone(words: impl Into<String>) -> Self {
        Self { words: words.into(), gone: true }
    }

    /// Whether the database may be there again later, and then do what it was asked.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// The same, of `what`.
    pub(super) fn of(self, what: &str) -> Self {
        Self { words: format!("{what}: {}", self.words), ..self }
    }
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Away {}
