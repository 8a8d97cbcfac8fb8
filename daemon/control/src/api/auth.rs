//! Who is asking: tokens and what they are good for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use axum::http::{HeaderMap, header};
use ringmain_config::{ApiPlan, Scope, TokenPlan, TokenSecret, load_auth};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Who a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The token's name; `anonymous` where no tokens are asked for.
    pub name: String,
    scopes: Vec<Scope>,
}

impl Caller {
    /// Whether one of the scopes is theirs.
    pub(crate) fn may(&self, scopes: &[Scope]) -> bool {
        scopes.iter().any(|scope| self.scopes.contains(scope))
            || self.scopes.contains(&Scope::Manage)
    }
}

struct Known {
    digest: [u8; 32],
    caller: Caller,
}

struct Table {
    known: Vec<Known>,
    read_at: Option<SystemTime>,
}

/// The tokens of the auth file, read again when it changes.
pub(crate) struct Tokens {
    /// None: everybody may do everything, for a listener that only this
    /// machine reaches.
    file: Option<PathBuf>,
    table: RwLock<Arc<Table>>,
}

impl Tokens {
    pub(crate) fn new(plan: &ApiPlan) -> Self {
        let file = plan.auth.as_ref().map(|file| PathBuf::from(&file.value));
        let read_at = file.as_deref().and_then(changed_at);
        let table = Table { known: known(&plan.tokens), read_at };
        if let Some(file) = &file {
            warn_if_readable(file);
        }
        Self { file, table: RwLock::new(Arc::new(table)) }
    }

    /// Whether requests need a token.
    pub(crate) fn are_asked_for(&self) -> bool {
        self.file.is_some()
    }

    /// Who shows this header; `None` for nobody that is known.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        if self.file.is_none() {
            return Some(Caller { name: "anonymous".into(), scopes: vec![Scope::Manage] });
        }
        let shown = shown(headers)?;
        let digest: [u8; 32] = Sha256::digest(shown.as_bytes()).into();
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner).clone();
        // All are compared, each in constant time: how long it takes says
        // nothing about how far a guess is right.
        let mut found = None;
        for known in &table.known {
            if bool::from(known.digest.ct_eq(&digest)) {
                found = Some(known.caller.clone());
            }
        }
        found
    }

    /// Reads the file again if it has changed. A bad one changes nothing.
    pub(crate) fn refresh(&self) {
        let Some(file) = &self.file else { return };
        let read_at = changed_at(file);
        let seen = self.table.read().unwrap_or_else(PoisonError::into_inner).read_at;
        if read_at.is_none() || read_at == seen {
            return;
        }
        let known = match load_auth(file) {
            Ok(tokens) => {
                tracing::info!("[api] auth: {} tokens read from {}", tokens.len(), file.display());
                known(&tokens)
            }
            Err(errors) => {
                tracing::error!("[api] auth: the old tokens stay:\n{errors}");
                let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
                let old = table.known.iter();
                let copy = |k: &Known| Known { digest: k.digest, caller: k.caller.clone() };
                let known = old.map(copy).collect();
                *table = Arc::new(Table { known, read_at });
                return;
            }
        };
        *self.table.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Table { known, read_at });
    }
}

fn known(tokens: &[TokenPlan]) -> Vec<Known> {
    let known = |token: &TokenPlan| Known {
        digest: match &token.secret {
            TokenSecret::Plain(text) => Sha256::digest(text.as_bytes()).into(),
            TokenSecret::Sha256(digest) => *digest,
        },
        caller: Caller { name: token.name.clone(), scopes: token.scopes.clone() },
    };
    tokens.iter().map(known).collect()
}

/// The token of a request: `Bearer`, or the password of `Basic`, which is all
/// that some clients of Jolokia can do.
fn shown(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let text = String::from_utf8(base64(rest.trim())?).ok()?;
        return text.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        held = held << 6 | u32::from(digit(byte)?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    Some(bytes)
}

fn changed_at(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|meta| meta.modified()).ok()
}

fn warn_if_readable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(file).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o004 != 0 {
        tracing::warn!("[api] auth: {} can be read by everybody: chmod o-r", file.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_token_is_shown_as_bearer_or_as_the_password_of_basic() {
        assert_eq!(shown(&headers("Bearer abc")).as_deref(), Some("abc"));
        assert_eq!(shown(&headers("basic dXNlcjpwYXNzOndvcmQ=")).as_deref(), Some("pass:word"));
        assert_eq!(shown(&headers("Basic ???")), None);
        assert_eq!(shown(&headers("Digest abc")), None);
        assert_eq!(shown(&HeaderMap::new()), None);
    }

    #[test]
    fn manage_includes_the_other_scopes_and_no_other_includes_it() {
        let caller = |scope| Caller { name: "x".into(), scopes: vec![scope] };
        assert!(caller(Scope::Manage).may(&[Scope::ReadRuntime]));
        assert!(!caller(Scope::ReadRuntime).may(&[Scope::Manage]));
        assert!(!caller(Scope::ReadRuntime).may(&[Scope::ReadManagement]));
        assert!(caller(Scope::ReadRuntime).may(&[Scope::ReadManagement, Scope::ReadRuntime]));
    }
}
