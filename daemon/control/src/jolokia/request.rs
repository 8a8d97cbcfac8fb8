//! Requests: from a path with Jolokia's escaping, or from JSON.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::Refusal;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ask {
    Version,
    List { path: Vec<String> },
    Search { mbean: String },
    Read { mbean: String, attributes: Attributes, path: Vec<String> },
    Exec { mbean: String, operation: String, arguments: Vec<Value> },
}

/// Which attributes are read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attributes {
    All,
    One(String),
    Some(Vec<String>),
}

/// A request with its processing parameters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub ask: Ask,
    /// What is repeated in the answer.
    pub echo: Value,
    pub config: Config,
}

/// Processing parameters that mean something here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub max_depth: Option<usize>,
    pub ignore_errors: bool,
    pub include_request: bool,
}

impl Config {
    fn of(given: impl Fn(&str) -> Option<String>) -> Self {
        let flag = |name: &str| given(name).map(|value| value.eq_ignore_ascii_case("true"));
        Self {
            max_depth: given("maxDepth").and_then(|n| n.parse().ok()).filter(|n| *n > 0),
            ignore_errors: flag("ignoreErrors").unwrap_or(false),
            include_request: flag("includeRequest").unwrap_or(true),
        }
    }
}

impl Request {
    /// From the part of a GET's path behind the endpoint, percent-decoded.
    pub(crate) fn of_path(path: &str, query: &HashMap<String, String>) -> Result<Self, Refusal> {
        let mut parts = split(path).into_iter();
        let kind = parts.next().unwrap_or_default();
        let rest: Vec<_> = parts.collect();
        let ask = match kind.to_lowercase().as_str() {
            "" | "version" => Ask::Version,
            "list" => Ask::List { path: rest },
            "search" => Ask::Search { mbean: required(rest.into_iter().next(), "an MBean")? },
            "read" => {
                let mut rest = rest.into_iter();
                let mbean = required(rest.next(), "an MBean")?;
                let attributes = match rest.next() {
                    None => Attributes::All,
                    Some(names) if names.is_empty() => Attributes::All,
                    Some(names) if names.contains(',') => {
                        Attributes::Some(names.split(',').map(str::to_owned).collect())
                    }
                    Some(name) => Attributes::One(name),
                };
                Ask::Read { mbean, attributes, path: rest.collect() }
            }
            "exec" => {
                let mut rest = rest.into_iter();
                let mbean = required(rest.next(), "an MBean")?;
                let operation = required(rest.next(), "an operation")?;
                Ask::Exec { mbean, operation, arguments: rest.map(Value::from).collect() }
            }
            _ => return Err(Refusal::unsupported(&kind)),
        };
        let echo = echo(&ask);
        Ok(Self { ask, echo, config: Config::of(|name| query.get(name).cloned()) })
    }

    /// From one object of a POST. Parameters of the URL hold for each.
    pub(crate) fn of_json(json: &Value, query: &HashMap<String, String>) -> Result<Self, Refusal> {
        let Value::Object(map) = json else {
            return Err(Refusal::illegal("a request is a JSON object, or a list of them"));
        };
        let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
        let kind = text("type").ok_or_else(|| Refusal::illegal("a request needs a 'type'"))?;
        let mbean = || required(text("mbean"), "'mbean'");
        let ask = match kind.to_lowercase().as_str() {
            "version" => Ask::Version,
            "list" => Ask::List { path: path(map)? },
            "search" => Ask::Search { mbean: mbean()? },
            "read" => Ask::Read { mbean: mbean()?, attributes: attributes(map)?, path: path(map)? },
            "exec" => Ask::Exec {
                mbean: mbean()?,
                operation: required(text("operation"), "'operation'")?,
                arguments: match map.get("arguments") {
                    None | Some(Value::Null) => Vec::new(),
                    Some(Value::Array(list)) => list.clone(),
                    Some(one) => vec![one.clone()],
                },
            },
            _ => return Err(Refusal::unsupported(&kind)),
        };
        let config = map.get("config").and_then(Value::as_object);
        let given = |name: &str| {
            let own = config.and_then(|config| config.get(name));
            let own = own.map(|own| own.as_str().map_or_else(|| own.to_string(), str::to_owned));
            own.or_else(|| query.get(name).cloned())
        };
        let echo = echo(&ask);
        Ok(Self { ask, echo, config: Config::of(given) })
    }
}

fn required(given: Option<String>, what: &str) -> Result<String, Refusal> {
    let given = given.filter(|text| !text.is_empty());
    given.ok_or_else(|| Refusal::illegal(&format!("the request needs {what}")))
}

fn attributes(map: &Map<String, Value>) -> Result<Attributes, Refusal> {
    match map.get("attribute") {
        None | Some(Value::Null) => Ok(Attributes::All),
        Some(Value::String(name)) => Ok(Attributes::One(name.clone())),
        Some(Value::Array(list)) if list.is_empty() => Ok(Attributes::All),
        Some(Value::Array(list)) => {
            let names = list.iter().map(|name| name.as_str().map(str::to_owned));
            let names = names.collect::<Option<_>>();
            names.map(Attributes::Some).ok_or_else(|| Refusal::illegal("'attribute' has no name"))
        }
        Some(_) => Err(Refusal::illegal("'attribute' is a name or a list of names")),
    }
}

fn path(map: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    match map.get("path") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(path)) => Ok(split(path)),
        Some(Value::Array(parts)) => {
            let text = |part: &Value| part.as_str().map_or_else(|| part.to_string(), str::to_owned);
            Ok(parts.iter().map(text).collect())
        }
        Some(_) => Err(Refusal::illegal("'path' is a text or a list")),
    }
}

/// At the slashes that no exclamation mark stands before; what one stands
/// before is meant literally.
fn split(path: &str) -> Vec<String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (mut parts, mut part, mut chars) = (Vec::new(), String::new(), path.chars());
    while let Some(c) = chars.next() {
        match c {
            '!' => part.extend(chars.next()),
            '/' => parts.push(std::mem::take(&mut part)),
            _ => part.push(c),
        }
    }
    // A slash at the end says nothing.
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

fn escape(part: &str) -> String {
    part.replace('!', "!!").replace('/', "!/")
}

fn echo(ask: &Ask) -> Value {
    let joined = |path: &[String]| {
        let parts: Vec<_> = path.iter().map(|part| escape(part)).collect();
        parts.join("/")
    };
    match ask {
        Ask::Version => json!({ "type": "version" }),
        Ask::List { path } if path.is_empty() => json!({ "type": "list" }),
        Ask::List { path } => json!({ "type": "list", "path": joined(path) }),
        Ask::Search { mbean } => json!({ "type": "search", "mbean": mbean }),
        Ask::Read { mbean, attributes, path } => {
            let mut echo = json!({ "type": "read", "mbean": mbean });
            match attributes {
                Attributes::All => {}
                Attributes::One(name) => echo["attribute"] = name.as_str().into(),
                Attributes::Some(names) => echo["attribute"] = names.clone().into(),
            }
            if !path.is_empty() {
                echo["path"] = joined(path).into();
            }
            echo
        }
        Ask::Exec { mbean, operation, arguments } => {
            let mut echo = json!({ "type": "exec", "mbean": mbean, "operation": operation });
            if !arguments.is_empty() {
                echo["arguments"] = arguments.clone().into();
            }
            echo
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_that_are_escaped_do_not_divide() {
        assert_eq!(split("/read/a!/b!!c!\"d/e"), ["read", "a/b!c\"d", "e"]);
        assert_eq!(split("list/"), ["list"]);
        assert_eq!(split(""), Vec::<String>::new());
        assert_eq!(split("a!"), ["a"]);
    }

    #[test]
    fn a_path_and_the_json_of_the_same_request_are_one() {
        let query = HashMap::new();
        let path = "read/java.lang:type=Memory/HeapMemoryUsage/used";
        let json = json!({
            "type": "READ", "mbean": "java.lang:type=Memory",
            "attribute": "HeapMemoryUsage", "path": "used",
        });
        let (a, b) = (Request::of_path(path, &query), Request::of_json(&json, &query));
        assert_eq!(a.as_ref().ok(), b.as_ref().ok());
        let echo = a.map(|request| request.echo).unwrap_or_default();
        assert_eq!(
            echo,
            json!({
                "type": "read", "mbean": "java.lang:type=Memory",
                "attribute": "HeapMemoryUsage", "path": "used",
            })
        );
    }

    #[test]
    fn several_attributes_are_a_list() {
        let request = Request::of_path("read/a:b=c/x,y", &HashMap::new()).unwrap();
        let Ask::Read { attributes, .. } = request.ask else { panic!() };
        assert_eq!(attributes, Attributes::Some(vec!["x".into(), "y".into()]));
    }
}
