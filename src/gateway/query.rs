//! A request's query: known parameters, each once.

use crate::{fault::Fault, identity::Link};

/// The parameters, decoded.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    /// 400 for a parameter that stands there twice.
    pub fn parse(text: Option<&str>) -> Result<Self, Fault> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(Fault::bad_request("a parameter of the query stands there twice"));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    /// Whether the parameter is there.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Its value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// # Errors
    /// 400 for what isn't a plain number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Fault> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = if plain { value.parse().ok() } else { None };
        number.map(Some).ok_or_else(|| Fault::bad_request(format!("the parameter {name} is a whole number")))
    }

    /// # Errors
    /// 400 when a parameter isn't among `known`: one that is passed over would
    /// leave its sender believing something.
    pub fn allow(&self, known: &[&str]) -> Result<(), Fault> {
        if self.0.iter().all(|(name, _)| known.contains(&name.as_str())) {
            return Ok(());
        }
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Fault::bad_request(format!("the query has a parameter that is not known here (known: {known})")))
    }

    /// The link that the query carries, if it is one.
    ///
    /// # Errors
    /// 400 for half a link.
    pub fn link(&self) -> Result<Option<Link>, Fault> {
        let Some(signature) = self.value("signature") else { return Ok(None) };
        match (self.number("expires")?, self.value("by")) {
            (Some(expires), Some(by)) => Ok(Some(Link { expires, by: by.to_owned(), signature: signature.to_owned() })),
            _ => Err(Fault::bad_request("the link is cut: it needs expires, by and signature")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_and_single() {
        let query = Query::parse(Some("list&prefix=a%20b&limit=7")).expect("reads");
        assert_eq!(query.value("prefix"), Some("a b"));
        assert_eq!(query.number("limit").expect("a number"), Some(7));
        assert!(query.allow(&["list", "prefix", "limit"]).is_ok());
        assert_eq!(query.allow(&["list"]).expect_err("unknown").status(), 400);
        assert!(Query::parse(Some("a=1&a=2")).is_err());
        for bad in ["-1", "+1", "", "1e3", "99999999999999999999999"] {
            let query = Query::parse(Some(&format!("limit={bad}"))).expect("reads");
            assert!(query.number("limit").is_err(), "{bad}");
        }
    }
}
