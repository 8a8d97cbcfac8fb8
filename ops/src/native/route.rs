//! Rows leave through the port of the first expression that is true of them.

use ringmain_base::Reason;
use ringmain_slab::Slab;

use super::filter::Condition;
use crate::{Context, Operator};

pub(crate) struct Route {
    ports: Vec<String>,
    /// The number of a port and who leaves through it, in order.
    routes: Vec<(usize, Condition)>,
    default: Option<usize>,
}

impl Route {
    pub(crate) fn new(routes: Vec<(String, Condition)>, default: Option<&str>) -> Self {
        let mut ports: Vec<String> = Vec::new();
        let mut port = |name: &str| {
            ports.iter().position(|known| known == name).unwrap_or_else(|| {
                ports.push(name.to_owned());
                ports.len() - 1
            })
        };
        let routes = routes.into_iter().map(|(name, when)| (port(&name), when)).collect();
        let default = default.map(&mut port);
        Self { ports, routes, default }
    }
}

impl Operator for Route {
    fn ports(&self) -> &[String] {
        &self.ports
    }

    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        for row in slab.rows() {
            let mut target = self.default;
            let mut refused = false;
            for (port, condition) in &mut self.routes {
                match condition.holds(row, cx.refuse) {
                    Some(false) => continue,
                    Some(true) => target = Some(*port),
                    None => refused = true,
                }
                break;
            }
            let Some(port) = target.filter(|_| !refused) else { continue };
            let to = &mut cx.ports[port];
            let copied = to.push_copy(row).or_else(|_| {
                to.reserve(row.image_bound())?;
                to.push_copy(row)
            });
            if let Err(full) = copied {
                cx.refuse.refuse(row, Reason::Memory, &full.to_string());
            }
        }
        slab.truncate(0);
    }
}
