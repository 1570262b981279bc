//! Secrets Manager as moto plays it: where a database's password is kept, and rotated.

use serde_json::{Value, json};

use crate::{
    standin::{StandIn, moto, text},
    support::Site,
};

/// One for all tests of this binary, so that names are to be each test's own.
pub(crate) struct SecretsManager(&'static StandIn);

impl SecretsManager {
    pub(crate) fn start() -> Self {
        Self(moto())
    }

    /// The endpoint, as `AWS_ENDPOINT_URL` has it.
    pub(crate) fn url(&self) -> &str {
        &self.0.endpoint
    }

    /// A site whose server speaks to it.
    pub(crate) fn site(&self) -> Site {
        self.0.site()
    }

    /// A fresh secret: its ARN.
    pub(crate) fn put(&self, name: &str, value: &Value) -> String {
        text(&self.0.does(json!({"do": "secret", "name": name, "value": value.to_string()}))["arn"])
    }

    /// Another version, which is AWSCURRENT; the one before it becomes AWSPREVIOUS.
    pub(crate) fn rotate(&self, name: &str, value: &Value) {
        self.0.does(json!({"do": "version", "name": name, "value": value.to_string()}));
    }
}
