//! What was tried before traffic tries it: held, or not, and the mend.
//!
//! `check --online` prints every [`Proof`]; the start of `serve` stops at the first
//! that failed, in the same words.

use std::fmt;

/// One thing tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What it was tried of, such as a class.
    pub of: String,
    /// What should hold.
    pub what: String,
    /// Whether it does.
    pub verdict: Verdict,
    /// What was found; with the mend where it should be otherwise.
    pub words: String,
}

/// How a proof ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Ok,
    /// Sealward works, and somebody should look at it.
    Warn,
    /// Sealward wouldn't start.
    Fail,
}

impl Proof {
    /// `what` holds; `words` say how.
    pub fn ok(what: impl Into<String>, words: impl fmt::Display) -> Self {
        Self::new(Verdict::Ok, what, words)
    }

    /// `what` doesn't quite hold, and nothing stops because of it.
    pub fn warn(what: impl Into<String>, words: impl fmt::Display) -> Self {
        Self::new(Verdict::Warn, what, words)
    }

    /// `what` doesn't hold.
    pub fn fail(what: impl Into<String>, words: impl fmt::Display) -> Self {
        Self::new(Verdict::Fail, what, words)
    }

    /// The same, tried of `of`.
    #[must_use]
    pub fn of(mut self, of: impl Into<String>) -> Self {
        self.of = of.into();
        self
    }

    /// Whether it would keep Sealward from starting.
    pub fn failed(&self) -> bool {
        self.verdict == Verdict::Fail
    }

    fn new(verdict: Verdict, what: impl Into<String>, words: impl fmt::Display) -> Self {
        Self { of: String::new(), what: what.into(), verdict, words: words.to_string() }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.of, self.what, self.words)
    }
}

impl Verdict {
    /// As a table shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}
