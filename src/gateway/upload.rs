//! `PUT` and `POST`: from a request's head and body to an [`Upload`].

use std::sync::Arc;

use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Body as _;
use uuid::Uuid;

use super::{
    Named, Place, answer,
    bodies::{FORM_AHEAD, FormFile, Raw},
    head,
};
use crate::{
    fault::Fault,
    http::{Arriving, Body, Pace, path},
    identity::{Action, Caller},
    objects::{Description, ObjectKey, Objects, Plaintext, Promises, Receipt, Upload, WriteCondition},
};

/// Memory for a form before its file: its head, and the piece of body that is at hand.
const FORM_MEMORY: u64 = FORM_AHEAD as u64 + (128 << 10);

/// `PUT` of a named object.
///
/// # Errors
/// Whatever keeps the object from being stored.
pub(super) async fn put(
    objects: &Arc<Objects>,
    key: &ObjectKey,
    request: Request<Arriving>,
    caller: &Caller,
    pace: Pace,
) -> Result<Response<Body>, Fault> {
    let class = objects.class();
    check_content(request.headers())?;
    let condition = head::write_condition(request.headers())?;
    if condition != WriteCondition::None {
        // Whether a condition holds tells what stands there.
        caller.require(Action::Read, &class.name)?;
    }
    let upload = Upload {
        key: key.clone(),
        description: head::description(request.headers(), class.allow_public_cache)?,
        condition,
        promises: head::promises(request.headers())?,
        length: request.body().size_hint().exact(),
        body: Box::new(Raw::new(request.into_body(), pace)),
        place: None,
        by: caller.name.to_string(),
    };
    let receipt = objects.put(upload).await?;
    // Who may not read isn't told whether something stood there.
    let replaced = receipt.replaced && caller.may(Action::Read, &class.name);
    Ok(received(&receipt, if replaced { StatusCode::OK } else { StatusCode::CREATED }))
}

/// `POST` to the collection, raw or as a form: the server picks the name.
///
/// # Errors
/// Whatever keeps the object from being stored.
pub(super) async fn post(
    at: &Place<'_>,
    request: Request<Arriving>,
    caller: &Caller,
    pace: Pace,
) -> Result<Response<Body>, Fault> {
    let class = at.objects.class();
    check_content(request.headers())?;
    if head::write_condition(request.headers())? != WriteCondition::None {
        return Err(Fault::bad_request("a condition on an object that has no name yet: use PUT"));
    }
    let key = ObjectKey::new(&Uuid::now_v7().hyphenated().to_string(), &class.prefix)?;
    let name = key.as_str().to_owned();
    let mut upload = match form_boundary(request.headers())? {
        Some(boundary) => form(at.objects, key, request, pace, boundary).await?,
        None => Upload {
            key,
            description: head::description(request.headers(), class.allow_public_cache)?,
            // Two requests never pick one name; if they did, neither must be lost.
            condition: WriteCondition::None,
            promises: head::promises(request.headers())?,
            length: request.body().size_hint().exact(),
            body: Box::new(Raw::new(request.into_body(), pace)),
            place: None,
            by: String::new(),
        },
    };
    upload.by = caller.name.to_string();
    let receipt = at.objects.put(upload).await?;
    tracing::debug!(caller = &*caller.name, "an object was named");
    let mut response = received(&receipt, StatusCode::CREATED);
    response.extensions_mut().insert(Named(name));
    answer::set(&mut response, header::LOCATION, &path::encode(&format!("{}{}", at.path, receipt.key)));
    Ok(response)
}

/// The one file of a form, with the name and type its part has.
async fn form(
    objects: &Arc<Objects>,
    key: ObjectKey,
    request: Request<Arriving>,
    pace: Pace,
    boundary: String,
) -> Result<Upload, Fault> {
    let promises = head::promises(request.headers())?;
    if !promises.now.is_empty() || !promises.late.is_empty() {
        return Err(Fault::bad_request("a digest of a whole form says nothing of its file: use PUT, or POST it raw"));
    }
    let mut description = Description::default();
    for (name, value) in request.headers() {
        if name.as_str().starts_with("x-amz-meta-") {
            description.take(name.as_str(), value.as_bytes())?;
        }
    }
    // Its head is read before the upload begins: not without a place and memory.
    let place = Some(objects.admit(FORM_MEMORY).await?);
    let file = FormFile::find(request.into_body(), pace, boundary).await?;
    if let Some(content_type) = file.content_type() {
        description.set("content-type", content_type);
    }
    if let Some(name) = file.file_name().filter(|name| !name.is_empty()) {
        description.set("content-disposition", disposition(name));
    }
    let body: Box<dyn Plaintext> = Box::new(file);
    let (condition, promises) = (WriteCondition::None, Promises::default());
    Ok(Upload { key, description, condition, promises, length: None, body, place, by: String::new() })
}

/// What no upload here may have.
fn check_content(headers: &HeaderMap) -> Result<(), Fault> {
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(Fault::bad_request("an object is put whole: Content-Range is not taken here"));
    }
    Ok(())
}

fn form_boundary(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let Some(content_type) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    multer::parse_boundary(content_type)
        .map(Some)
        .map_err(|_| Fault::bad_request("the Content-Type multipart/form-data has no boundary"))
}

/// RFC 6266, with the extended form for what isn't plain ASCII.
fn disposition(name: &str) -> String {
    // Some clients send a whole path: a file's name is its last segment.
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let plain: String = name
        .chars()
        .map(|c| if (' '..='~').contains(&c) && !matches!(c, '"' | '\\' | '%') { c } else { '_' })
        .collect();
    if plain == name {
        format!("attachment; filename=\"{plain}\"")
    } else {
        format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", path::encode(name).replace('/', "%2F"))
    }
}

fn received(receipt: &Receipt, status: StatusCode) -> Response<Body> {
    let mut response = answer::json(receipt);
    *response.status_mut() = status;
    answer::set(&mut response, header::ETAG, &format!("\"{}\"", receipt.etag));
    answer::set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

#[cfg(test)]
mod tests {
    use super::disposition;

    #[test]
    fn a_file_name_becomes_a_disposition() {
        assert_eq!(disposition("a b.pdf"), "attachment; filename=\"a b.pdf\"");
        assert_eq!(disposition("C:\\x\\y.txt"), "attachment; filename=\"y.txt\"");
        assert_eq!(disposition("a\"b"), "attachment; filename=\"a_b\"; filename*=UTF-8''a%22b");
        assert_eq!(disposition("é\r\n"), "attachment; filename=\"___\"; filename*=UTF-8''%C3%A9%0D%0A");
    }
}
