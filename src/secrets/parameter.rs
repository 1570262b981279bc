//! SSM Parameter Store: one `SecureString`, decrypted by the service.
//!
//! One signed call is all that is needed, and AWS's own crate for Systems Manager takes
//! minutes to compile; credentials, region, endpoints and the signature are the SDK's.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_types::service_config::ServiceConfigKey;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Refusal, Source, Version};
use crate::{
    aws::KeptCredentials,
    fault::chain,
    secret::{SecretText, jittered},
};

/// One try.
const ATTEMPT: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;
/// Before the second try; twice that before the third.
const PAUSE: Duration = Duration::from_millis(200);
/// The largest answer, in bytes; a parameter has 8 KiB at most.
const MOST: usize = 64 << 10;
const TARGET: &str = "AmazonSSM.GetParameter";

/// One parameter.
#[derive(Debug)]
pub struct Parameter {
    name: String,
    region: String,
    endpoint: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    credentials: Option<KeptCredentials>,
}

/// Why one try came to nothing, and whether another may help.
struct Miss {
    passing: bool,
    what: String,
}

impl Parameter {
    /// The parameter `name`, which may be an ARN.
    ///
    /// # Errors
    /// When the system's root certificates can't be read.
    pub fn new(aws: &SdkConfig, name: &str) -> Result<Self, Refusal> {
        let region = aws.region().map(ToString::to_string).unwrap_or_default();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
        let connector = connector
            .map_err(|error| Refusal::new(name, format!("the system's root certificates can't be read: {error}")))?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self {
            name: name.to_owned(),
            endpoint: endpoint(aws, &region),
            region,
            client,
            credentials: aws.credentials_provider().map(KeptCredentials::new),
        })
    }

    async fn ask(&self) -> Result<Answer, Refusal> {
        let mut tries = 1;
        loop {
            let miss = match tokio::time::timeout(ATTEMPT, self.once()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(miss)) => miss,
                Err(_) => Miss { passing: true, what: "Parameter Store doesn't answer".into() },
            };
            if !miss.passing || tries >= TRIES {
                return Err(Refusal::new(&self.name, miss.what));
            }
            tokio::time::sleep(jittered(PAUSE * tries)).await;
            tries += 1;
        }
    }

    async fn once(&self) -> Result<Answer, Miss> {
        let lasting = |what: String| Miss { passing: false, what };
        let passing = |what: String| Miss { passing: true, what };
        let kept = self.credentials.as_ref().ok_or_else(|| lasting("no AWS credentials".into()))?;
        let credentials = kept.get().await.map_err(|error| passing(format!("no AWS credentials: {error}")))?;
        let body = serde_json::json!({ "Name": self.name, "WithDecryption": true }).to_string();
        let request = self.signed(&credentials, body).map_err(|error| lasting(format!("can't be signed: {error}")))?;
        let answer = self.client.request(request).await.map_err(|error| passing(chain(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MOST).collect().await;
        let body = body.map_err(|error| passing(format!("the answer broke off: {error}")))?;
        let body = Zeroizing::new(body.to_bytes().to_vec());
        if status.is_success() {
            // The parser's own words may quote what it stumbled over.
            return serde_json::from_slice(&body).map_err(|_| lasting("the answer can't be read".into()));
        }
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        let message = if problem.message.is_empty() { &problem.upper } else { &problem.message };
        let code = problem.kind.rsplit('#').next().unwrap_or_default();
        let what = match code {
            "ParameterNotFound" => "Parameter Store has no such parameter in this region".into(),
            "AccessDeniedException" => {
                format!("{code}: {message}; allow ssm:GetParameter, and kms:Decrypt with its key")
            }
            _ => format!("{code} ({}): {message}", status.as_u16()),
        };
        Err(Miss { passing: status.is_server_error() || code.starts_with("Throttling"), what })
    }

    fn signed(
        &self,
        credentials: &Credentials,
        body: String,
    ) -> Result<http::Request<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        let identity = credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ssm")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", TARGET)];
        let signable =
            SignableRequest::new("POST", &self.endpoint, headers.into_iter(), SignableBody::Bytes(body.as_bytes()))?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        let mut request = http::Request::post(&self.endpoint);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request = request.body(Full::from(body))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

#[async_trait]
impl Source for Parameter {
    fn place(&self) -> &str {
        &self.name
    }

    async fn fetch(&self, known: Option<&str>) -> Result<Option<Version>, Refusal> {
        let Answer { parameter } = self.ask().await?;
        // One that was deleted and made anew begins at version 1 again.
        let id = format!("{}@{}", parameter.version, parameter.modified);
        if known == Some(&id) {
            return Ok(None);
        }
        if parameter.kind != "SecureString" {
            let what =
                format!("is a {}, readable by whoever may read parameters: make it a SecureString", parameter.kind);
            return Err(Refusal::new(&self.name, what));
        }
        let seconds = Duration::try_from_secs_f64(parameter.modified).unwrap_or_default();
        let since = SystemTime::UNIX_EPOCH + seconds;
        Ok(Some(Version { id, value: SecretText::new(parameter.value), previous: None, since }))
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Parameter")]
    parameter: Found,
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Value")]
    value: String,
    #[serde(rename = "Version")]
    version: u64,
    #[serde(rename = "LastModifiedDate", default)]
    modified: f64,
}

#[derive(Default, Deserialize)]
struct Problem {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(default)]
    message: String,
    /// Some write it so, and some write both.
    #[serde(rename = "Message", default)]
    upper: String,
}

/// Where Parameter Store answers: as the environment or the profile says, or AWS's own address.
fn endpoint(aws: &SdkConfig, region: &str) -> String {
    let key = ServiceConfigKey::builder().service_id("SSM").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let own = key.ok().and_then(|key| aws.service_config()?.load_config(key));
    if let Some(url) = own.or_else(|| aws.endpoint_url().map(str::to_owned)) {
        return url;
    }
    let service = if aws.use_fips().unwrap_or(false) { "ssm-fips" } else { "ssm" };
    let dual = aws.use_dual_stack().unwrap_or(false);
    let domain = match (region.starts_with("cn-"), dual) {
        (false, false) => "amazonaws.com",
        (false, true) => "api.aws",
        (true, false) => "amazonaws.com.cn",
        (true, true) => "api.amazonwebservices.com.cn",
    };
    format!("https://{service}.{region}.{domain}/")
}

#[cfg(test)]
mod tests {
    use aws_config::Region;

    use super::*;

    #[test]
    fn aws_own_addresses() {
        for (region, fips, dual, expected) in [
            ("eu-west-1", false, false, "https://ssm.eu-west-1.amazonaws.com/"),
            ("us-east-1", true, false, "https://ssm-fips.us-east-1.amazonaws.com/"),
            ("us-east-1", false, true, "https://ssm.us-east-1.api.aws/"),
            ("cn-north-1", false, false, "https://ssm.cn-north-1.amazonaws.com.cn/"),
        ] {
            let aws = SdkConfig::builder().region(Region::new(region)).use_fips(fips).use_dual_stack(dual).build();
            assert_eq!(endpoint(&aws, region), expected);
        }
        let aws = SdkConfig::builder().endpoint_url("http://127.0.0.1:4566").build();
        assert_eq!(endpoint(&aws, "eu-west-1"), "http://127.0.0.1:4566");
    }
}
