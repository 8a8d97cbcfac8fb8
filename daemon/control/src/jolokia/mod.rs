//! Jolokia: JMX over HTTP, as monitoring tools for JVMs speak it.
//!
//! Owns: the protocol (version, list, search, read with patterns and inner
//! paths, exec; bulk requests), and what the daemon shows as MBeans.
//! Deliberately absent: writing attributes, notifications, proxies, JSONP.

mod beans;
mod name;
mod request;

use serde_json::{Map, Value, json};

use self::beans::{Bean, all};
use self::name::ObjectName;
use crate::view::{Sample, View};

pub(crate) use self::request::{Ask, Attributes, Request};

/// The version of the protocol that this is.
const PROTOCOL: &str = "7.2";

/// Why a request was refused, in the words of Java that clients know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    status: u16,
    class: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: u16, class: &'static str, message: impl Into<String>) -> Self {
        Self { status, class, message: message.into() }
    }

    pub(crate) fn illegal(message: &str) -> Self {
        Self::new(400, "java.lang.IllegalArgumentException", message)
    }

    fn unsupported(kind: &str) -> Self {
        let message = format!("there is no request of type '{kind}' here");
        Self::new(400, "java.lang.UnsupportedOperationException", message)
    }

    fn malformed_name(name: &str, why: &str) -> Self {
        let class = "javax.management.MalformedObjectNameException";
        Self::new(400, class, format!("'{name}': {why}"))
    }

    fn no_bean(name: &str) -> Self {
        Self::new(404, "javax.management.InstanceNotFoundException", name)
    }

    fn no_attribute(name: &str) -> Self {
        let class = "javax.management.AttributeNotFoundException";
        Self::new(404, class, format!("No such attribute: {name}"))
    }

    fn no_path(path: &[String]) -> Self {
        let class = "javax.management.AttributeNotFoundException";
        Self::new(404, class, format!("Invalid path: {}", path.join("/")))
    }

    pub(crate) fn forbidden(message: &str) -> Self {
        Self::new(403, "java.lang.SecurityException", message)
    }

    /// The operation was tried, and failed.
    pub(crate) fn failed(message: String) -> Self {
        Self::new(500, "javax.management.MBeanException", message)
    }

    fn no_operation(name: &str) -> Self {
        let class = "java.lang.IllegalArgumentException";
        Self::new(400, class, format!("No operation {name} found"))
    }
}

/// What is answered to one request. Errors are answers, too.
pub(crate) fn response(request: Option<&Request>, result: Result<Value, Refusal>) -> Value {
    let mut response = Map::new();
    if let Some(request) = request.filter(|request| request.config.include_request) {
        response.insert("request".into(), request.echo.clone());
    }
    match result {
        Ok(value) => {
            response.insert("value".into(), value);
            response.insert("status".into(), 200.into());
        }
        Err(refusal) => {
            let error = format!("{} : {}", refusal.class, refusal.message);
            response.insert("error_type".into(), refusal.class.into());
            response.insert("error".into(), error.into());
            response.insert("status".into(), refusal.status.into());
        }
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    response.insert("timestamp".into(), now.unwrap_or_default().as_secs().into());
    Value::Object(response)
}

/// Answers everything but exec from a reading.
pub(crate) fn answer(request: &Request, view: &View, sample: &Sample) -> Result<Value, Refusal> {
    match &request.ask {
        Ask::Version => Ok(version(view)),
        Ask::List { path } => {
            let list = list(&all(view, sample));
            let value = at_path(&list, path).ok_or_else(|| Refusal::no_path(path))?;
            Ok(request.config.max_depth.map_or_else(|| value.clone(), |d| shallow(&value, d)))
        }
        Ask::Search { mbean } => {
            let pattern = ObjectName::parse(mbean)?;
            let beans = all(view, sample);
            let names = beans.iter().filter(|bean| pattern.matches(&bean.name));
            Ok(names.map(|bean| bean.name.to_string()).collect::<Vec<_>>().into())
        }
        Ask::Read { mbean, attributes, path } => {
            let ignore = request.config.ignore_errors;
            read(&all(view, sample), mbean, attributes, path, ignore)
        }
        Ask::Exec { .. } => Err(Refusal::illegal("an operation is not a question")),
    }
}

/// What is to be done, on which flow, for an exec; a signature behind the
/// operation's name may be empty only.
pub(crate) fn operation(
    view: &View,
    sample: &Sample,
    mbean: &str,
    operation: &str,
    arguments: &[Value],
) -> Result<(&'static str, Option<String>), Refusal> {
    let name = ObjectName::parse(mbean)?;
    let beans = all(view, sample);
    let bean = beans.iter().find(|bean| bean.name == name);
    let bean = bean.ok_or_else(|| Refusal::no_bean(mbean))?;
    let plain = operation.strip_suffix("()").unwrap_or(operation);
    let mut found = bean.operations.iter().filter(|(name, _)| *name == plain);
    let (operation, _) = found.next().ok_or_else(|| Refusal::no_operation(operation))?;
    if !arguments.is_empty() {
        return Err(Refusal::illegal(&format!("{operation} takes no arguments")));
    }
    Ok((operation, bean.name.keys.get("name").cloned()))
}

fn version(view: &View) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "protocol": PROTOCOL,
        "agent": version,
        "config": {
            "agentId": format!("{}-ringmain", std::process::id()),
            "agentType": "ringmain",
            "agentDescription": view.node.name,
        },
        "info": { "product": "ringmain", "vendor": "ringmain", "version": version },
    })
}

fn list(beans: &[Bean]) -> Value {
    let mut domains: Map<String, Value> = Map::new();
    for bean in beans {
        let attributes = bean.attributes.iter().map(|a| {
            let about = json!({ "rw": false, "type": a.java_type(), "desc": a.about });
            (a.name.to_owned(), about)
        });
        let operations = bean.operations.iter().map(|(name, about)| {
            ((*name).to_owned(), json!({ "args": [], "ret": "void", "desc": about }))
        });
        let info = json!({
            "class": bean.class,
            "desc": bean.about,
            "attr": attributes.collect::<Map<_, _>>(),
            "op": operations.collect::<Map<_, _>>(),
        });
        let domain = domains.entry(bean.name.domain.clone()).or_insert_with(|| json!({}));
        domain[bean.name.properties()] = info;
    }
    Value::Object(domains)
}

fn read(
    beans: &[Bean],
    mbean: &str,
    attributes: &Attributes,
    path: &[String],
    ignore_errors: bool,
) -> Result<Value, Refusal> {
    let name = ObjectName::parse(mbean)?;
    let value = if name.is_pattern() {
        let mut found = Map::new();
        for bean in beans.iter().filter(|bean| name.matches(&bean.name)) {
            // What a bean does not have is not asked of it.
            let values = values(bean, attributes, true)?;
            if !values.is_empty() {
                found.insert(bean.name.to_string(), Value::Object(values));
            }
        }
        if found.is_empty() {
            return Err(Refusal::no_bean(&format!("No MBean with pattern {mbean} found")));
        }
        Value::Object(found)
    } else {
        let bean = beans.iter().find(|bean| bean.name == name);
        let bean = bean.ok_or_else(|| Refusal::no_bean(mbean))?;
        let mut values = values(bean, attributes, ignore_errors)?;
        match attributes {
            Attributes::One(name) => {
                values.remove(name).ok_or_else(|| Refusal::no_attribute(name))?
            }
            Attributes::All | Attributes::Some(_) => Value::Object(values),
        }
    };
    at_path(&value, path).ok_or_else(|| Refusal::no_path(path))
}

fn values(
    bean: &Bean,
    wanted: &Attributes,
    skip_unknown: bool,
) -> Result<Map<String, Value>, Refusal> {
    let all = || bean.attributes.iter().map(|a| (a.name.to_owned(), a.value.clone()));
    let names = match wanted {
        Attributes::All => return Ok(all().collect()),
        Attributes::One(name) => std::slice::from_ref(name),
        Attributes::Some(names) => names,
    };
    let mut values = Map::new();
    for name in names {
        match all().find(|(known, _)| known == name) {
            Some((name, value)) => {
                values.insert(name, value);
            }
            None if skip_unknown => {}
            None => return Err(Refusal::no_attribute(name)),
        }
    }
    Ok(values)
}

/// What stands at an inner path. A `*` keeps its level and matches everything
/// there; other parts are literal, and their level is left out. Behind a `*`,
/// what does not match is left out.
fn at_path(value: &Value, path: &[String]) -> Option<Value> {
    let Some((part, rest)) = path.split_first() else { return Some(value.clone()) };
    if part == "*" {
        return match value {
            Value::Object(map) => {
                let matching = map.iter().filter_map(|(k, v)| Some((k.clone(), at_path(v, rest)?)));
                let matching: Map<_, _> = matching.collect();
                (!matching.is_empty()).then_some(Value::Object(matching))
            }
            Value::Array(list) => {
                let matching: Vec<_> = list.iter().filter_map(|v| at_path(v, rest)).collect();
                (!matching.is_empty()).then_some(Value::Array(matching))
            }
            _ => None,
        };
    }
    match value {
        Value::Object(map) => at_path(map.get(part)?, rest),
        Value::Array(list) => at_path(list.get(part.parse::<usize>().ok()?)?, rest),
        _ => None,
    }
}

/// The first levels; what is below is a dummy.
fn shallow(value: &Value, depth: usize) -> Value {
    match value {
        Value::Object(_) if depth == 0 => 1.into(),
        Value::Object(map) => map
            .iter()
            .map(|(k, v)| (k.clone(), shallow(v, depth - 1)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn inner_paths_leave_out_literal_levels_and_keep_those_of_stars() {
        let value = json!({
            "a:b=1": { "Usage": { "used": 1, "max": 2 } },
            "a:b=2": { "Usage": { "used": 3 }, "Other": 4 },
        });
        let at = |path: &str| at_path(&value, &parts(path));
        assert_eq!(
            at("*/*/used"),
            Some(json!({ "a:b=1": { "Usage": 1 }, "a:b=2": { "Usage": 3 } }))
        );
        assert_eq!(at("*/Usage/max"), Some(json!({ "a:b=1": 2 })));
        assert_eq!(at("a:b=2/Other"), Some(json!(4)));
        assert_eq!(at("a:b=3"), None);
        assert_eq!(at_path(&json!([[1, 2], [3]]), &parts("*/0")), Some(json!([1, 3])));
        assert_eq!(at(""), Some(value.clone()));
    }

    #[test]
    fn a_depth_leaves_dummies_below_it() {
        assert_eq!(shallow(&json!({ "d": { "p": { "x": 1 } } }), 1), json!({ "d": 1 }));
        assert_eq!(shallow(&json!({ "d": { "p": { "x": 1 } } }), 2), json!({ "d": { "p": 1 } }));
    }
}
