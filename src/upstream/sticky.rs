//! A signed cookie that leads a client to where it was before.
//!
//! It says until when it holds, and has an HMAC of that and of one name: which name it is
//! shows only to who has the key. So a client can neither choose a target nor learn of one.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};

use crate::{config, secret::fill_random};

/// Bytes of the HMAC that the cookie has.
const TAG: usize = 16;

/// Writes and reads the cookies of one upstream, or of one route's groups.
pub struct Cookies {
    name: String,
    duration: Duration,
    key: hmac::Key,
    /// What else is signed, so that a cookie is good for nothing else.
    scope: String,
}

impl Cookies {
    /// As `config` says; `scope` keeps the cookies of one place from being good at another.
    pub fn new(config: &config::Sticky, scope: &str) -> Self {
        let key = match &config.key {
            Some(key) => hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes()),
            None => own(),
        };
        Self { name: config.cookie.clone(), duration: config.duration, key, scope: scope.to_owned() }
    }

    /// Which of `names` the request's cookie leads to, if it is one of ours and still good.
    pub fn find<'a>(&self, headers: &HeaderMap, names: impl IntoIterator<Item = &'a str>) -> Option<usize> {
        let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == self.name)?;
        let (until, tag) = value.split_once('.')?;
        let until = u64::from_str_radix(until, 16).ok()?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok().filter(|tag| tag.len() == TAG)?;
        if until <= seconds() {
            return None;
        }
        let meant = |name: &str| constant_time::verify_slices_are_equal(&self.sign(until, name), &tag).is_ok();
        names.into_iter().position(meant)
    }

    /// The `Set-Cookie` that leads to `name` from now on.
    pub fn set(&self, name: &str) -> Option<HeaderValue> {
        let until = seconds().saturating_add(self.duration.as_secs());
        let tag = URL_SAFE_NO_PAD.encode(self.sign(until, name));
        let text = format!(
            "{}={until:x}.{tag}; Max-Age={}; Path=/; Secure; HttpOnly; SameSite=Lax",
            self.name,
            self.duration.as_secs()
        );
        HeaderValue::from_str(&text).ok()
    }

    fn sign(&self, until: u64, name: &str) -> [u8; TAG] {
        let text = format!("{}\n{until}\n{name}", self.scope);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&hmac::sign(&self.key, text.as_bytes()).as_ref()[..TAG]);
        tag
    }
}

/// The process's own key, the same after a reload.
fn own() -> hmac::Key {
    static OWN: OnceLock<hmac::Key> = OnceLock::new();
    let make = || {
        let mut key = [0; 32];
        // Without randomness nothing else starts either.
        let _ = fill_random(&mut key);
        hmac::Key::new(hmac::HMAC_SHA256, &key)
    };
    OWN.get_or_init(make).clone()
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretText;

    fn cookies(key: &str, seconds: u64, scope: &str) -> Cookies {
        let key = Some(SecretText::new(key.into()));
        let duration = Duration::from_secs(seconds);
        Cookies::new(&config::Sticky { cookie: "lb".into(), duration, key }, scope)
    }

    fn sent(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().expect("text").split(';').next().expect("a pair").to_owned();
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, format!("other=1; {pair}; more=2").parse().expect("a value"));
        headers
    }

    #[test]
    fn a_cookie_leads_back_and_nowhere_else() {
        let ours = cookies("one", 60, "app");
        let set = ours.set("http://b").expect("a cookie");
        assert!(!set.to_str().expect("text").contains("http"), "no target shows");
        let names = ["http://a", "http://b"];
        assert_eq!(ours.find(&sent(&set), names), Some(1));
        assert_eq!(ours.find(&sent(&set), ["http://a"]), None, "it is gone");
        assert_eq!(cookies("other", 60, "app").find(&sent(&set), names), None, "another key");
        assert_eq!(cookies("one", 60, "elsewhere").find(&sent(&set), names), None, "another place");
        assert_eq!(ours.find(&HeaderMap::new(), names), None);
        let past = cookies("one", 0, "app").set("http://b").expect("a cookie");
        assert_eq!(ours.find(&sent(&past), names), None, "its time is over");
        let text = set.to_str().expect("text");
        let longer = text.replacen("lb=", "lb=f", 1);
        for altered in [longer.as_str(), "lb=", "lb=zz.AA", "lb=ffffffffff.AAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(ours.find(&sent(&altered.parse().expect("a value")), names), None, "{altered}");
        }
    }
}
