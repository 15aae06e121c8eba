//! Where adapters can be, and where those of a plan are.

use super::names::Projection;
use crate::plan::{LoraOptions, TargetLayers};
use std::collections::{BTreeMap, BTreeSet};

/// A projection of a layer: where an adapter can be. Sites are ordered by projection, then by layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// The projection.
    pub projection: Projection,
    /// The layer, from 0.
    pub layer: u64,
}

impl Site {
    /// Path of the module (`transformer.h.3.attn.q_proj`).
    pub fn module(self) -> String {
        self.projection.module(self.layer as usize)
    }

    /// The site with this path, if it is one of a GPT-J.
    pub fn of_module(path: &str) -> Option<Self> {
        let layer = path.strip_prefix("transformer.h.")?.split('.').next()?.parse().ok()?;
        let sites = Projection::ALL.map(|projection| Self { projection, layer });
        sites.into_iter().find(|site| site.module() == path)
    }

    /// Every site of a model of `n_layer` layers.
    pub fn all(n_layer: u64) -> BTreeSet<Self> {
        let of_layer = |layer| Projection::ALL.map(|projection| Self { projection, layer });
        (0..n_layer).flat_map(of_layer).collect()
    }
}

/// The layers of each projection among `sites`.
pub fn by_projection(sites: &BTreeSet<Site>) -> BTreeMap<Projection, Vec<u64>> {
    let mut layers: BTreeMap<Projection, Vec<u64>> = BTreeMap::new();
    for site in sites {
        layers.entry(site.projection).or_default().push(site.layer);
    }
    layers
}

impl LoraOptions {
    /// Puts the adapters on `sites` of a model of `n_layer` layers, and on no others.
    pub fn place(&mut self, sites: &BTreeSet<Site>, n_layer: u64) {
        let found = by_projection(sites);
        self.targets = found.keys().map(|projection| projection.name().to_owned()).collect();
        let all: Vec<u64> = (0..n_layer).collect();
        let partial = found.into_iter().filter(|(_, layers)| *layers != all);
        let only = |(projection, layers): (Projection, Vec<u64>)| TargetLayers {
            target: projection.name().to_owned(),
            layers,
        };
        self.only_in = partial.map(only).collect();
    }

    /// Where the adapters are in a model of `n_layer` layers; targets that no GPT-J has are passed over.
    pub fn sites(&self, n_layer: u64) -> BTreeSet<Site> {
        let mut sites = Site::all(n_layer);
        sites.retain(|site| self.is_on(site.projection.name(), site.layer));
        sites
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_sites_belong_to_each_other() {
        let all = Site::all(12);
        assert_eq!(all.len(), 72);
        assert!(all.iter().all(|site| Site::of_module(&site.module()) == Some(*site)));
        for path in
            ["", "transformer.h.1", "transformer.h.1.attn.c_attn", "transformer.h.01.attn.q_proj", "lm_head"]
        {
            assert_eq!(Site::of_module(path), None, "{path}");
        }
    }

    #[test]
    fn options_keep_sites_in_a_compact_form() {
        let site = |projection, layer| Site { projection, layer };
        let mut lora = LoraOptions::default();
        let v = (0..4).map(|layer| site(Projection::V, layer));
        let sites = v.chain([site(Projection::Q, 3), site(Projection::Q, 1)]).collect();
        lora.place(&sites, 4);
        assert_eq!(lora.targets, ["q_proj", "v_proj"]);
        assert_eq!(lora.only_in, [TargetLayers { target: "q_proj".to_owned(), layers: vec![1, 3] }]);
        assert_eq!(lora.sites(4), sites);
        assert!(lora.is_on("q_proj", 1) && !lora.is_on("q_proj", 2) && !lora.is_on("k_proj", 1));
        assert_eq!(lora.described(","), "q_proj (layers 1,3),v_proj");
        // The same sites of a larger model are in some layers only.
        lora.place(&sites, 5);
        assert_eq!(lora.described(", "), "q_proj (layers 1,3), v_proj (layers 0-3)");
    }
}
