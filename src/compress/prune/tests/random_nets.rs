//! Nets put together at random.

use super::*;
use proptest::prelude::*;

/// Builds a net from a list of choices: each adds one piece on top of what is there.
pub(super) fn build(choices: &[u8]) -> Model {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let mut live = vec![(n.conv("stem", &x, 3, 8, 1, 1), 8usize)];
    for (i, &c) in choices.iter().enumerate() {
        let (x, width) = live[(c as usize / 16) % live.len()].clone();
        let name = format!("l{i}");
        let made = match c % 10 {
            0 | 1 => {
                let y = n.conv(&name, &x, width, 8, 3, 1);
                (n.op("Relu", &[&y]), 8)
            }
            2 => (n.silu(&x), width),
            3 => (n.conv(&name, &x, width, width, 3, width), width),
            4 => {
                let y = n.conv(&name, &x, width, width, 1, 1);
                (n.op("Add", &[&y, &x]), width)
            }
            5 => {
                let (other, w) = live[c as usize % live.len()].clone();
                (n.b.node(Node::new("Concat", "", [&x, &other], [""]).int("axis", 1)), width + w)
            }
            6 if width % 2 == 0 => {
                let names = [format!("{name}a"), format!("{name}b")];
                n.b.node(Node::new("Split", "", [&x], names.clone()).int("axis", 1));
                live.push((names[0].clone(), width / 2));
                (names[1].clone(), width / 2)
            }
            7 if width % 2 == 0 => (shuffle(&mut n, &x, width, 2, 4), width),
            8 if width % 4 == 0 => (n.conv(&name, &x, width, width, 1, 4), width),
            _ => {
                let g = n.op("GlobalAveragePool", &[&x]);
                let g = n.conv(&name, &g, width, width, 1, 1);
                let g = n.op("Sigmoid", &[&g]);
                (n.op("Mul", &[&x, &g]), width)
            }
        };
        live.push(made);
    }
    // All that is there ends in the output, so that nothing is idle.
    let names: Vec<&str> = live.iter().map(|(v, _)| v.as_str()).collect();
    let total = live.iter().map(|(_, w)| w).sum();
    let y = n.b.node(Node::new("Concat", "", names, [""]).int("axis", 1));
    n.end(&y, total)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever the net and the ratio, pruning gives the masked outputs (checked by `apply`) and a smaller model.
    #[test]
    fn any_net_prunes_to_what_masking_gives(
        choices in prop::collection::vec(any::<u8>(), 0..9),
        ratio in 0.05f64..0.95,
        global in any::<bool>(),
        align in 1usize..4,
    ) {
        let m = build(&choices);
        let scope = if global { Ranking::Global } else { Ranking::Layer };
        let options = Prune { ratio, scope, align, min_channels: 1, ..Prune::default() };
        let p = options.apply(&m, None, &Context::new()).unwrap();
        let changed = !p.steps().is_empty();
        prop_assert_eq!(changed, p.stats().unwrap().params < m.stats().unwrap().params);
        // A pruned model can be pruned again, unless single channels are all that is left.
        match options.apply(&p, None, &Context::new()) {
            Ok(again) => prop_assert!(again.stats().unwrap().params <= p.stats().unwrap().params),
            Err(e) => prop_assert!(e.to_string().contains("no channels of this model can be removed"), "{}", e),
        }
    }
}
