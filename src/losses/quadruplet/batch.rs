//! All quadruplets of a batch at once, by counting.

use tch::{Kind, Tensor};

use super::none;
use crate::distance::widen;
use crate::losses::Tally;
use crate::mining::Groups;

/// Pairs times columns that are looked at together.
const BLOCK: usize = 1 << 21;

/// The quadruplet loss with adaptive margins (1704.01719, Eq. 4) over **all** quadruplets (i, j, k, l) of a batch:
/// `dist` `[B, B]` is g (any float kind, not necessarily symmetric), `labels` int64 `[B]`, `weights` the two w. The
/// margins, which are returned, come from the mean g² of all ordered positive and of all ordered negative pairs,
/// clamped at 0; no gradient flows through them.
///
/// A term a quadruplet, B²K·B of them and more, yet O(B²K log B) time and O(B²) memory: for every entry of `dist` it
/// counts in how many active hinges it stands. The margins are numbers on the host, so a GPU is waited for once;
/// training loops use [`super::adaptive_pairs`], which doesn't wait.
pub fn adaptive(dist: &Tensor, labels: &Tensor, weights: (f64, f64)) -> (Tally, (f64, f64)) {
    let g = widen(dist);
    let squares = g.square();
    let groups = Groups::of(labels, g.size()[0] as usize);
    let counted = tch::no_grad(|| count(&squares.detach(), &groups, weights));
    let Some(Counted { weight, offset, terms, active, margins }) = counted else {
        let empty = Tally { sum: (g.sum(g.kind()) * 0.), terms: none(&g), active: none(&g) };
        return (empty, (0., 0.));
    };
    // Sums of squares times constant counts: linear, so that automatic differentiation gives the hinges' gradient.
    // Entries that stand in no quadruplet (the diagonal) must not matter, whatever they hold.
    let stands = Tensor::eye(g.size()[0], (Kind::Bool, g.device())).logical_not();
    let squares = squares.where_self(&stands, &squares.zeros_like());
    let sum = (squares.to_kind(Kind::Double) * weight).sum(Kind::Double) + offset;
    let whole = |n: i64| Tensor::full([], n, (Kind::Int64, g.device()));
    (Tally { sum: sum.to_kind(g.kind()), terms: whole(terms), active: whole(active) }, margins)
}

/// All ordered positive pairs, anchor-major.
fn positives(groups: &Groups) -> (Vec<i64>, Vec<i64>) {
    let pairs = |(row, &group): (usize, &i32)| {
        let others = groups.members[group as usize].iter().filter(move |&&other| other != row);
        others.map(move |&other| (row as i64, other as i64))
    };
    groups.group.iter().enumerate().flat_map(pairs).unzip()
}

/// The loss as a function of the entries while no hinge changes its state.
struct Counted {
    /// f64 `[B, B]`: what each squared entry is multiplied by.
    weight: Tensor,
    /// What the margins add.
    offset: f64,
    terms: i64,
    active: i64,
    margins: (f64, f64),
}

fn count(squares: &Tensor, groups: &Groups, weights: (f64, f64)) -> Option<Counted> {
    let rows = groups.group.len() as i64;
    let (anchors, positives) = positives(groups);
    if groups.members.len() < 3 || anchors.is_empty() {
        return None;
    }
    let device = squares.device();
    let there = |numbers: &[i64]| Tensor::from_slice(numbers).to_device(device);
    let members = || groups.group.iter().map(|&group| &groups.members[group as usize]);
    let group = Tensor::from_slice(&groups.group).to_device(device);
    let size = there(&members().map(|members| members.len() as i64).collect::<Vec<_>>());
    let different = group.unsqueeze(1).ne_tensor(&group.unsqueeze(0));
    let (anchor, positive) = (there(&anchors), there(&positives));
    let p = squares.flatten(0, -1).index_select(0, &(&anchor * rows + &positive));
    let mean_negative =
        squares.where_self(&different, &squares.zeros_like()).sum(Kind::Double) / different.sum(Kind::Double);
    let gap = (mean_negative - p.mean(Kind::Double)).clamp_min(0.).double_value(&[]);
    let margins = (weights.0 * gap, weights.1 * gap);

    // Rows of a third identity beside those of a pair's two: how often (i, k) is repeated in the first hinge.
    let thirds = (rows - size.unsqueeze(1) - size.unsqueeze(0)) * &different;
    let (t, q) = (&p + margins.0, &p + margins.1);
    // A negative n is above its hinge's kink where n < t; what is no negative never is.
    let n = squares.masked_fill(&different.logical_not(), f64::INFINITY);
    // First for all l, then without those of i's identity (k's own are no negatives of k).
    let all = n.transpose(0, 1).contiguous().sort(1, false).0;
    let ordered = q.sort(0, false).0;
    let below = |sorted: &Tensor, values: &Tensor, right: bool| {
        values.searchsorted(sorted, false, right, if right { "right" } else { "left" }, None::<&Tensor>)
    };
    // #{pairs: q > n}, of all identities.
    let mut weak = -(below(&ordered, &n, true) - anchors.len() as i64);
    let mut strong = n.zeros_like().to_kind(Kind::Int64);
    let longest = groups.largest();
    // [B, longest]: the rows of each row's identity, -1 behind the last.
    let padded = |members: &Vec<usize>| {
        let members: Vec<i64> = members.iter().map(|&row| row as i64).collect();
        members.into_iter().chain(std::iter::repeat(-1)).take(longest)
    };
    let member = there(&members().flat_map(padded).collect::<Vec<_>>()).view([rows, longest as i64]);
    let chunk = (BLOCK / rows as usize).max(1) as i64;
    let (mut of_pair, mut offset, mut active) = (Vec::new(), (0_i64, 0_i64), 0_i64);
    let pairs = anchors.len() as i64;
    for from in (0..pairs).step_by(chunk as usize) {
        let part = |x: &Tensor| x.narrow(0, from, chunk.min(pairs - from));
        let (i, t, q) = (part(&anchor), part(&t), part(&q));
        let (row, repeats) = (n.index_select(0, &i), thirds.index_select(0, &i));
        let negative = different.index_select(0, &i);
        // The first hinge, (pair, k).
        let first = row.lt_tensor(&t.unsqueeze(1));
        let counted = &repeats * &first;
        let _ = strong.index_add_(0, &i, &counted);
        // The second, (pair, k): how many l.
        let columns = q.unsqueeze(0).expand([rows, -1], false).contiguous();
        let mut second = below(&all, &columns, false).transpose(0, 1).contiguous();
        for m in 0..longest as i64 {
            let l = member.select(1, m).index_select(0, &i);
            let there = l.ge(0);
            let l = l.clamp_min(0);
            let own = n.index_select(0, &l).lt_tensor(&q.unsqueeze(1)).logical_and(&there.unsqueeze(1));
            let own = own.to_kind(Kind::Int64);
            second -= &own;
            let _ = weak.index_add_(0, &l, &own.neg());
            let across = n.index_select(1, &l).transpose(0, 1).lt_tensor(&q.unsqueeze(1));
            let across = across.logical_and(&there.unsqueeze(1)).to_kind(Kind::Int64);
            let _ = weak.transpose(0, 1).index_add_(0, &l, &across.neg());
        }
        let second = second * negative;
        of_pair.push((&counted + &second).sum_dim_intlist(1, false, Kind::Int64));
        active += (&counted + &second - &second * &first).sum(Kind::Int64).int64_value(&[]);
        offset.0 += counted.sum(Kind::Int64).int64_value(&[]);
        offset.1 += second.sum(Kind::Int64).int64_value(&[]);
    }
    let weak = weak * &different;
    let terms = thirds.index_select(0, &anchor).sum(Kind::Int64).int64_value(&[]);
    let negatives = -(strong + weak).to_kind(Kind::Double);
    let weight = negatives.flatten(0, -1).index_add(
        0,
        &(&anchor * rows + &positive),
        &Tensor::cat(&of_pair, 0).to_kind(Kind::Double),
    );
    Some(Counted {
        weight: weight.view([rows, rows]),
        offset: margins.0 * offset.0 as f64 + margins.1 * offset.1 as f64,
        terms,
        active,
        margins,
    })
}
