//! The groups of channels of a model, with what each costs, and what cannot go.

use super::costs::{Budget, Costs};
use super::{Analysis, Group, Stay, head_values};
use compresso_base::error::Result;
use compresso_base::report::{Cell, Plot, Series, SeriesKind, Show, Table};
use compresso_model::Model;
use serde::Serialize;

/// A group, and what it costs.
#[derive(Debug, Clone, Serialize)]
pub struct GroupCost {
    /// Its layers and channels.
    #[serde(flatten)]
    pub group: Group,
    /// Share of the weights of all layers that goes with half of the channels.
    pub params: f64,
    /// As [`GroupCost::params`], of the multiply-accumulates of a run; `None` where the model leaves the image's size open.
    pub macs: Option<f64>,
}

/// What [`PruneGroups`](super::PruneGroups) finds.
#[derive(Debug, Clone, Serialize)]
pub struct GroupReport {
    /// In the order of their first layers.
    pub groups: Vec<GroupCost>,
    /// Layers that keep all their channels.
    pub stays: Vec<Stay>,
}

impl GroupReport {
    /// # Errors
    /// As [`Analysis::new`].
    pub(super) fn new(model: &Model) -> Result<Self> {
        let found = Analysis::new(model.graph(), &head_values(model.task()))?;
        let params = Costs::new(&found, model.task(), Budget::Params)?.0;
        let macs = Costs::new(&found, model.task(), Budget::Macs)?;
        let macs = macs.1.then_some(macs.0);
        let cost = |group: &Group| {
            let saving = |costs: &Costs| costs.saving_of(group, group.channels / 2);
            GroupCost { group: group.clone(), params: saving(&params), macs: macs.as_ref().map(saving) }
        };
        Ok(Self { groups: found.groups.0.iter().map(cost).collect(), stays: found.stays() })
    }
}

impl Show for GroupReport {
    fn tables(&self) -> Vec<Table> {
        let headers = ["group", "layers", ">channels", ">layers in group", ">weights in half", ">MACs in half"];
        let mut table = Table::new("Groups of channels that are pruned together", &headers).minor(["layers in group", "layers"]);
        for GroupCost { group, params, macs } in &self.groups {
            let mut names = group.layers.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
            if group.layers.len() > 3 {
                names += ", …";
            }
            let counts = [group.channels, group.layers.len()].map(|n| Cell::from(n.to_string()));
            let macs = macs.map_or_else(Cell::unknown, Cell::share);
            table.row([Cell::from(&group.name), Cell::from(names)].into_iter().chain(counts).chain([Cell::share(*params), macs]));
        }
        std::iter::once(table).chain(super::groups::stays_table(&self.stays)).collect()
    }
    fn plots(&self) -> Vec<Plot> {
        let bars = |name: &str, of: &dyn Fn(&GroupCost) -> Option<f64>| Series {
            name: name.to_string(),
            kind: SeriesKind::Bars,
            points: self.groups.iter().enumerate().filter_map(|(i, g)| Some((i as f64, 100.0 * of(g)?))).collect(),
            labels: self.groups.iter().map(|g| g.group.name.clone()).collect(),
        };
        let series = vec![bars("weights", &|g| Some(g.params)), bars("multiply-accumulates", &|g| g.macs)];
        let series = series.into_iter().filter(|s| !s.points.is_empty()).collect::<Vec<_>>();
        if series.is_empty() {
            return Vec::new();
        }
        vec![Plot { series, ..Plot::default() }.titled("What goes with half of a group", "group, in the order of the model", "%")]
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
