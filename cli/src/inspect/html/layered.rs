//! Lays out a graph in ranks, from top to bottom.
//!
//! The usual four steps of Sugiyama, Tagawa and Toda 1981: ranks by longest path, a bend wherever an edge passes a rank,
//! order inside a rank by the mean place of the neighbours, then places that keep the order and come near those means.

/// Where everything was put.
pub(super) struct Layout {
    /// Left and top of each node.
    pub(super) nodes: Vec<(f64, f64)>,
    /// The points of each edge, from the bottom of its source to the top of its target.
    pub(super) edges: Vec<Vec<(f64, f64)>>,
    /// Size of the whole.
    pub(super) size: (f64, f64),
}

/// Sizes of a drawing.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) width: f64,
    pub(super) height: f64,
    /// Between nodes of a rank.
    pub(super) gap: f64,
    /// Between ranks.
    pub(super) rank_gap: f64,
}

/// Room that an edge takes where it passes a rank.
const BEND: f64 = 10.0;
const SWEEPS: usize = 16;

/// A node or a bend.
struct Item {
    rank: usize,
    width: f64,
    above: Vec<usize>,
    below: Vec<usize>,
    /// Middle.
    x: f64,
}

/// Lays out `count` nodes of one size. Edges lead from a lower to a higher index.
pub(super) fn layout(count: usize, edges: &[(usize, usize)], sizes: Sizes) -> Layout {
    let ranks = ranks(count, edges);
    let item = |rank: usize, width: f64| Item { rank, width, above: Vec::new(), below: Vec::new(), x: 0.0 };
    let mut items: Vec<Item> = ranks.iter().map(|&rank| item(rank, sizes.width)).collect();
    let mut paths = Vec::with_capacity(edges.len());
    for &(from, to) in edges {
        let mut path = vec![from];
        for rank in ranks[from] + 1..ranks[to] {
            items.push(item(rank, BEND));
            path.push(items.len() - 1);
        }
        path.push(to);
        for pair in path.windows(2) {
            items[pair[0]].below.push(pair[1]);
            items[pair[1]].above.push(pair[0]);
        }
        paths.push(path);
    }
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); ranks.iter().max().map_or(0, |last| last + 1)];
    for (index, item) in items.iter().enumerate() {
        rows[item.rank].push(index);
    }
    arrange(&mut items, &mut rows, sizes);
    place(&items, &paths, count, rows.len(), sizes)
}

/// Ranks by longest path; what nothing leads to stands right above its first reader.
fn ranks(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut ranks = vec![0usize; count];
    let mut has_source = vec![false; count];
    let mut sorted = edges.to_vec();
    sorted.sort_unstable_by_key(|&(from, to)| (to, from));
    for &(from, to) in &sorted {
        ranks[to] = ranks[to].max(ranks[from] + 1);
        has_source[to] = true;
    }
    for node in (0..count).rev().filter(|&node| !has_source[node]) {
        let first = edges.iter().filter(|&&(from, _)| from == node).map(|&(_, to)| ranks[to]).min();
        ranks[node] = first.map_or(ranks[node], |rank| rank.saturating_sub(1));
    }
    ranks
}

fn mean(items: &[Item], of: &[usize]) -> Option<f64> {
    (!of.is_empty()).then(|| of.iter().map(|&index| items[index].x).sum::<f64>() / of.len() as f64)
}

/// Orders the rows, then moves items towards their neighbours.
fn arrange(items: &mut [Item], rows: &mut [Vec<usize>], sizes: Sizes) {
    for row in rows.iter() {
        for (place, &index) in row.iter().enumerate() {
            items[index].x = place as f64 * (sizes.width + sizes.gap);
        }
    }
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        let order: Vec<usize> =
            if down { (0..rows.len()).collect() } else { (0..rows.len()).rev().collect() };
        for rank in order {
            let row = &mut rows[rank];
            let wanted = |items: &[Item], index: usize| {
                let neighbours = if down { &items[index].above } else { &items[index].below };
                mean(items, neighbours).unwrap_or(items[index].x)
            };
            if sweep < SWEEPS / 2 {
                row.sort_by(|&a, &b| wanted(items, a).total_cmp(&wanted(items, b)));
            }
            let places: Vec<f64> = row.iter().map(|&index| wanted(items, index)).collect();
            spread(items, row, &places, sizes.gap);
        }
    }
}

/// Gives the items of a row places in their order, as near to those wanted as their widths allow.
fn spread(items: &mut [Item], row: &[usize], wanted: &[f64], gap: f64) {
    let distance = |a: usize, b: usize| (items[row[a]].width + items[row[b]].width) / 2.0 + gap;
    let mut from_left = wanted.to_vec();
    for place in 1..row.len() {
        from_left[place] = from_left[place].max(from_left[place - 1] + distance(place - 1, place));
    }
    let mut from_right = wanted.to_vec();
    for place in (1..row.len()).rev() {
        from_right[place - 1] = from_right[place - 1].min(from_right[place] - distance(place - 1, place));
    }
    for (place, &index) in row.iter().enumerate() {
        items[index].x = (from_left[place] + from_right[place]) / 2.0;
    }
}

fn place(items: &[Item], paths: &[Vec<usize>], count: usize, ranks: usize, sizes: Sizes) -> Layout {
    let left = items.iter().map(|item| item.x - item.width / 2.0).fold(f64::INFINITY, f64::min);
    let right = items.iter().map(|item| item.x + item.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let left = if left.is_finite() { left } else { 0.0 };
    let top = |rank: usize| rank as f64 * (sizes.height + sizes.rank_gap);
    let edges = paths.iter().map(|path| {
        let last = path.len() - 1;
        let mut points = Vec::with_capacity(path.len() * 2);
        for (place, &index) in path.iter().enumerate() {
            let (x, y) = (items[index].x - left, top(items[index].rank));
            if place > 0 {
                points.push((x, y));
            }
            if place < last {
                points.push((x, y + sizes.height));
            }
        }
        points
    });
    Layout {
        nodes: items[..count].iter().map(|item| (item.x - item.width / 2.0 - left, top(item.rank))).collect(),
        edges: edges.collect(),
        size: ((right - left).max(0.0), (top(ranks) - sizes.rank_gap).max(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { width: 100.0, height: 30.0, gap: 20.0, rank_gap: 30.0 };

    #[test]
    fn nodes_of_a_rank_do_not_touch_and_edges_lead_down() {
        let edges = [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 5), (4, 5), (0, 5)];
        let drawn = layout(6, &edges, SIZES);
        for (a, &(x, y)) in drawn.nodes.iter().enumerate() {
            for &(other_x, other_y) in &drawn.nodes[a + 1..] {
                assert!(y != other_y || (x - other_x).abs() >= SIZES.width, "{:?}", drawn.nodes);
            }
            assert!(
                x >= 0.0 && x + SIZES.width <= drawn.size.0 + 1e-9 && y + SIZES.height <= drawn.size.1 + 1e-9
            );
        }
        for (points, (from, to)) in drawn.edges.iter().zip(edges) {
            assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{points:?}");
            assert_eq!(points[0].1, drawn.nodes[from].1 + SIZES.height);
            assert_eq!(points[points.len() - 1].1, drawn.nodes[to].1);
        }
    }

    #[test]
    fn an_empty_graph_has_no_size() {
        let drawn = layout(0, &[], SIZES);
        assert_eq!((drawn.nodes.len(), drawn.size), (0, (0.0, 0.0)));
    }
}
