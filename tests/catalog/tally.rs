//! What statements did to the table of objects, counted by the server itself: a statement
//! that ran twice shows there, whatever the table says in the end.

use crate::servers::Database;

/// Rows of `objects` that were inserted and updated since [`begin`].
#[derive(Debug, PartialEq)]
pub(crate) struct Tally {
    pub(crate) inserts: usize,
    pub(crate) updates: usize,
    /// How many rows they were.
    pub(crate) rows: usize,
}

impl Tally {
    /// Of `rows` that were inserted once each, and never touched again.
    pub(crate) fn once(rows: usize) -> Self {
        Self { inserts: rows, updates: 0, rows }
    }
}

/// Counts from now on. The tables must be there: a Sealward has started.
pub(crate) fn begin(database: &dyn Database) {
    database.sql("CREATE TABLE tally (id VARCHAR(64) NOT NULL, did VARCHAR(6) NOT NULL)");
    // Both run as the administrator, who made them.
    if database.engine() == "postgres" {
        database.sql(
            "CREATE FUNCTION tally() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ \
             BEGIN INSERT INTO public.tally VALUES (NEW.id, TG_OP); RETURN NULL; END $$",
        );
        database
            .sql("CREATE TRIGGER tally AFTER INSERT OR UPDATE ON objects FOR EACH ROW EXECUTE FUNCTION public.tally()");
    } else {
        for did in ["INSERT", "UPDATE"] {
            database.sql(&format!(
                "CREATE TRIGGER tally_{did} AFTER {did} ON objects FOR EACH ROW \
                 INSERT INTO tally VALUES (NEW.id, '{did}')"
            ));
        }
    }
}

/// What was counted.
pub(crate) fn taken(database: &dyn Database) -> Tally {
    let count = |what: &str, which: &str| {
        let counted = database.sql(&format!("SELECT count({what}) FROM tally {which}"));
        counted.parse().expect("a number")
    };
    Tally {
        inserts: count("*", "WHERE did = 'INSERT'"),
        updates: count("*", "WHERE did = 'UPDATE'"),
        rows: count("DISTINCT id", ""),
    }
}
