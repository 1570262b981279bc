//! Values that come out of secrets.

use std::path::Path;

use super::*;

const SECRETS: &str = r#"
[[listener]]
bind = "127.0.0.1:8443"
tls = { source = { files = { cert = "a", key = "b" } } }
[[secret]]
name = "values"
source = { file = "values.json" }
[[secret]]
name = "pair"
source = { secrets_manager = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:pair-a1b2c3" }
refresh = "1h"
[limits]
"#;

fn with(values: &'static [(&'static str, &'static str)], text: &str) -> Result<Parsed, Faults> {
    let text = Text::new(text, "sealward.toml", Path::new("/etc/sealward"));
    text.parse(&|name, field| {
        (name == "values").then(|| match values.iter().find(|(of, _)| Some(*of) == field) {
            Some((_, value)) => Ok(crate::secret::SecretText::new((*value).to_owned())),
            None => Err("has no such field".into()),
        })
    })
}

#[test]
fn any_value_can_come_out_of_a_secret() {
    let text = SECRETS.to_owned()
        + r#"
uploads = { secret = "values", field = "count" }
idle_timeout = { secret = "values", field = "time" }
buffer_memory = { secret = "values", field = "size" }
[log]
level = { secret = "values", field = "level" }
[identity]
tokens = { secret = "values", field = "path" }
"#;
    let values = &[("count", "7"), ("time", "9s"), ("size", "64MiB"), ("level", "debug"), ("path", "t.json")];
    let Parsed::Whole(config) = with(values, &text).expect("reads") else { panic!("all is there") };
    assert_eq!(config.limits.uploads, 7);
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(9));
    assert_eq!(config.limits.buffer_memory, 64 << 20);
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.identity.tokens, Some(Tokens::File("/etc/sealward/t.json".into())));
    assert_eq!(config.secrets.len(), 2);
    assert_eq!(
        (config.secrets[1].refresh, config.secrets[0].refresh),
        (Duration::from_secs(10), Duration::from_secs(3600))
    );

    // Before they are fetched it says which are wanted, and reads no more than that.
    let text = Text::new(&text, "sealward.toml", Path::new(""));
    let Parsed::Wanting(wanted) = text.parse(&|_, _| None).expect("reads") else { panic!("nothing is there") };
    assert_eq!(wanted.iter().map(|secret| secret.name.as_str()).collect::<Vec<_>>(), ["values"]);
    // A bad value is a fault that doesn't show it.
    let shown =
        with(&[("count", "hunter2")], &(SECRETS.to_owned() + "uploads = { secret = \"values\", field = \"count\" }"))
            .expect_err("no number")
            .render(false);
    assert!(shown.contains("field = \"count\"") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn what_is_wrong_with_a_secret_is_named() {
    for (text, title) in [
        ("uploads = { secret = \"valus\" }", "there is no `[[secret]]` `valus`"),
        ("uploads = { secret = \"values\", field = \"none\" }", "the secret `values` has no such field"),
        ("uploads = { secret = \"values\", feld = \"x\" }", "unknown key `feld`"),
        ("uploads = { secret = 3 }", "must be a string"),
        ("uploads = { file = \"x\" }", "must be a whole number"),
        ("[[secret]]\nname = \"values\"\nsource = { env = \"X\" }", "two secrets have one name"),
        ("[[secret]]\nname = \"a b\"\nsource = { env = \"X\" }", "`name` doesn't fit a secret"),
        ("[[secret]]\nname = \"x\"\nsource = { env = \"X\", file = \"y\" }", "a secret has one source"),
        ("[[secret]]\nname = \"x\"\nsource = { }", "a secret has one source"),
        ("[[secret]]\nname = \"x\"\nsource = { env = \"\" }", "the source of a secret has no name"),
        ("[[secret]]\nname = \"x\"", "lacks `source`"),
        ("[[secret]]\nname = \"x\"\nsource = { vault = \"y\" }", "unknown key `vault`"),
    ] {
        let faults = with(&[], &(SECRETS.to_owned() + text)).expect_err(text).render(false);
        assert!(faults.contains(title), "{text}: {faults}");
    }
}

#[test]
fn certificates_and_tickets_come_out_of_secrets() {
    let tls = |tls: &str| {
        let text = SECRETS.replace("{ source = { files = { cert = \"a\", key = \"b\" } } }", tls);
        with(&[], &text)
    };
    let source = |written: &str| {
        let Parsed::Whole(config) = tls(written).expect(written) else { panic!("nothing is wanted") };
        (tls_of(&config).clone(), config.secrets)
    };
    for (written, name, fields) in [
        ("{ source = { secret = { name = \"pair\" } } }", "pair", None),
        ("{ source = { secret = \"pair\" } }", "pair", None),
        (
            "{ source = { secret = { name = \"prod/edge\", cert = \"c\", key = \"k\" } } }",
            "prod/edge",
            Some(("c", "k")),
        ),
    ] {
        let (tls, secrets) = source(written);
        let CertificateSource::Secret { name: found, fields: had } = &tls.certificates[0].source else {
            panic!("{tls:?}")
        };
        assert_eq!(found, name);
        assert_eq!(had.as_ref().map(|(cert, key)| (cert.as_str(), key.as_str())), fields);
        assert!(secrets.iter().any(|secret| secret.name == name), "one that isn't defined is Secrets Manager's");
    }
    let (tls_found, _) =
        source("{ source = { secret = \"pair\" }, ticket_secret = { secret = \"values\", field = \"t\" } }");
    let Some(TicketSecret::Secret(found)) = &tls_found.ticket_secret else { panic!("{tls_found:?}") };
    assert_eq!((found.name.as_str(), found.field.as_deref()), ("values", Some("t")));
    for (written, title) in [
        ("{ source = { secret = { name = \"pair\", cert = \"c\" } } }", "lacks `key`"),
        ("{ source = { secret = { } } }", "lacks `name`"),
        ("{ source = { secret = \"pair\", files = { cert = \"a\", key = \"b\" } } }", "a certificate has one source"),
        (
            "{ source = { secret = \"pair\" }, ticket_secret = { secret = \"nope\" } }",
            "there is no `[[secret]]` `nope`",
        ),
    ] {
        let faults = tls(written).expect_err(written).render(false);
        assert!(faults.contains(title), "{written}: {faults}");
    }
}
