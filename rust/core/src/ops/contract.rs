//! Products summed over chosen axes: outer, tensordot, vecdot, einsum. All of them become one batched matrix product per pair.

use crate::error::{Error, Result};
use crate::ops::arrange::diagonal_first;
use crate::ops::common::rounded_once;
use crate::ops::{astype, broadcast_to, matmul, multiply, permute_dims, reshape_to, sum};
use crate::shape::{Shape, broadcast_shapes, normalize_axis, show};
use crate::tensor::{Tensor, check_device};

/// `out[i, j] = x1[i] x2[j]` of two vectors.
///
/// Errors: `Shape` unless both have one axis.
pub fn outer(x1: &Tensor, x2: &Tensor) -> Result<Tensor> {
    if x1.ndim() != 1 || x2.ndim() != 1 {
        return Err(Error::shape(
            "outer",
            format!(
                "takes two vectors, not shapes {} and {} (flatten them first)",
                x1.shape(),
                x2.shape()
            ),
        ));
    }
    let column = reshape_to("outer", x1, [x1.numel(), 1].into())?;
    multiply(&column, x2)
}
/// `sum(x1 * x2)` over `axis`, which has one size in both; the other axes broadcast.
///
/// Errors: `Shape` when the sizes along `axis` differ or the others do not broadcast; `Index` for an axis out of range.
pub fn vecdot(x1: &Tensor, x2: &Tensor, axis: isize) -> Result<Tensor> {
    const OP: &str = "vecdot";
    let shape = broadcast_shapes(OP, x1.shape(), x2.shape())?;
    // A negative axis, so that it is the same one in both.
    let at = normalize_axis(OP, axis, shape.len())?;
    let back = (shape.len() - at) as isize;
    for x in [x1, x2] {
        if back > x.ndim() as isize || x.shape()[x.ndim() - back as usize] != shape[at] {
            return Err(Error::shape(
                OP,
                format!(
                    "axis {axis} must have one size in both, got shapes {} and {}",
                    x1.shape(),
                    x2.shape()
                ),
            ));
        }
    }
    rounded_once!(x1, x2 => vecdot(x1, x2, axis));
    let dtype = x1.dtype().promote(x2.dtype());
    astype(
        &sum(&multiply(x1, x2)?, Some(&[-back]), false, None)?,
        dtype,
    )
}

/// The axes that [`tensordot`] sums over.
#[derive(Clone, Copy, Debug)]
pub enum DotAxes<'a> {
    /// The last so many of `x1` with the first of `x2`.
    Count(usize),
    /// These of `x1` with those of `x2`, in pairs.
    Pairs(&'a [isize], &'a [isize]),
}
/// The sum of products over pairs of axes; the others of `x1`, then those of `x2`, remain.
///
/// Errors: `Shape` when the sizes of a pair differ; `Value` for lists of different lengths or an axis named twice.
pub fn tensordot(x1: &Tensor, x2: &Tensor, axes: DotAxes<'_>) -> Result<Tensor> {
    const OP: &str = "tensordot";
    let (a, b): (Vec<isize>, Vec<isize>) = match axes {
        DotAxes::Count(n) => {
            if n > x1.ndim() || n > x2.ndim() {
                return Err(Error::value(
                    OP,
                    format!(
                        "{n} axes to sum over, but the shapes are {} and {}",
                        x1.shape(),
                        x2.shape()
                    ),
                ));
            }
            let n = n as isize;
            ((-n..0).collect(), (0..n).collect())
        }
        DotAxes::Pairs(a, b) => (a.to_vec(), b.to_vec()),
    };
    if a.len() != b.len() {
        return Err(Error::value(
            OP,
            format!("axes {} and {} do not pair up", show(&a), show(&b)),
        ));
    }
    let places = |axes: &[isize], x: &Tensor| -> Result<Vec<usize>> {
        let each = axes.iter().map(|&d| normalize_axis(OP, d, x.ndim()));
        let found: Vec<usize> = each.collect::<Result<_>>()?;
        match (1..found.len()).find(|&i| found[..i].contains(&found[i])) {
            Some(i) => Err(Error::value(
                OP,
                format!("{} names axis {} twice", show(axes), found[i]),
            )),
            None => Ok(found),
        }
    };
    let (a, b) = (places(&a, x1)?, places(&b, x2)?);
    // As labels: 0.. for the axes of x1, those of x2 behind them, the summed ones of x2 renamed to their partners.
    let left: Vec<u32> = (0..x1.ndim() as u32).collect();
    let mut right: Vec<u32> = (0..x2.ndim()).map(|d| (x1.ndim() + d) as u32).collect();
    for (&i, &j) in a.iter().zip(&b) {
        if x1.shape()[i] != x2.shape()[j] {
            return Err(Error::shape(
                OP,
                format!(
                    "axis {i} of shape {} and axis {j} of shape {} differ in size",
                    x1.shape(),
                    x2.shape()
                ),
            ));
        }
        right[j] = left[i];
    }
    let keep = |l: &u32| !a.contains(&(*l as usize));
    let result: Vec<u32> = left.iter().chain(&right).copied().filter(keep).collect();
    contract(OP, vec![(x1.clone(), left), (x2.clone(), right)], &result)
}

/// Einstein's summation, `equation` in NumPy's notation: `"ij,jk->ik"`, `"...i,...i"`. A label that is repeated within an operand
/// takes its diagonal, labels missing on the right are summed over; without `->` those that occur once remain, in alphabetical
/// order, behind the axes of the ellipsis, which broadcast. An axis of size 1 stretches to the size that its label has elsewhere.
///
/// Operands are multiplied from left to right, each pair by one batched matrix product.
///
/// Errors: `Value` for an equation that is malformed or does not fit the operands; `Shape` for sizes that differ.
pub fn einsum(equation: &str, operands: &[&Tensor]) -> Result<Tensor> {
    const OP: &str = "einsum";
    let bad = |why: String| Err(Error::value(OP, format!("'{equation}': {why}")));
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (inputs, output) = match text.split_once("->") {
        Some((i, o)) => (i, Some(o)),
        None => (&text[..], None),
    };
    if let Some(dtype) = operands.first().map(|x| x.dtype())
        && dtype.is_half()
        && operands.iter().all(|x| x.dtype() == dtype)
    {
        // As `rounded_once!`, for any number of operands.
        let wide = operands.iter().map(|x| astype(x, dtype.arithmetic()));
        let wide = wide.collect::<Result<Vec<_>>>()?;
        return astype(&einsum(equation, &wide.iter().collect::<Vec<_>>())?, dtype);
    }
    let terms: Vec<&str> = inputs.split(',').collect();
    if terms.len() != operands.len() || operands.is_empty() {
        return bad(format!(
            "{} terms for {} operands",
            terms.len(),
            operands.len()
        ));
    }
    for t in terms.iter().chain(&output) {
        let letters = t.replacen("...", "", 1);
        if let Some(c) = letters.chars().find(|c| !c.is_ascii_alphabetic()) {
            return bad(format!(
                "'{c}' in '{t}' is neither a letter nor one ellipsis (...)"
            ));
        }
    }
    // Axes of the ellipsis are aligned at their last one: labels 0, 1, .. count from behind; letters have larger ones.
    let mut dots = 0;
    let mut labelled = Vec::new();
    for (t, x) in terms.iter().zip(operands) {
        check_device(OP, operands[0], x)?;
        let letters = t.chars().filter(char::is_ascii_alphabetic).count();
        let ellipsis = t.contains("...");
        if letters > x.ndim() || (!ellipsis && letters < x.ndim()) {
            return bad(format!(
                "'{t}' names {letters} axes, but its operand has shape {}",
                x.shape()
            ));
        }
        let more = x.ndim() - letters;
        dots = dots.max(more);
        labelled.push(((*x).clone(), labels(t, more)));
    }
    let result = match output {
        Some(o) => {
            let letters: Vec<char> = o.chars().filter(char::is_ascii_alphabetic).collect();
            for (i, &c) in letters.iter().enumerate() {
                if letters[..i].contains(&c) {
                    return bad(format!("'{c}' occurs twice in the output"));
                }
                if !inputs.contains(c) {
                    return bad(format!("'{c}' of the output is in no operand"));
                }
            }
            if !o.contains("...") && dots > 0 {
                return bad(
                    "the output needs an ellipsis (...) for the axes that are not named".into(),
                );
            }
            labels(o, dots)
        }
        None => {
            let mut once: Vec<char> = inputs.chars().filter(char::is_ascii_alphabetic).collect();
            once.retain(|&c| inputs.matches(c).count() == 1);
            once.sort_unstable();
            let dots = (0..dots as u32).rev();
            dots.chain(once.iter().map(|&c| c as u32 + LETTERS))
                .collect()
        }
    };
    contract(OP, labelled, &result)
}
/// Labels of letters start here, above those of any ellipsis.
const LETTERS: u32 = 1 << 16;
/// The label of each axis of a term whose ellipsis stands for `dots` axes.
fn labels(term: &str, dots: usize) -> Vec<u32> {
    let letters = |t: &str| t.chars().map(|c| c as u32 + LETTERS).collect::<Vec<_>>();
    match term.split_once("...") {
        Some((a, b)) => [letters(a), (0..dots as u32).rev().collect(), letters(b)].concat(),
        None => letters(term),
    }
}

/// A tensor and the label of each of its axes.
type Labelled = (Tensor, Vec<u32>);

/// The product of all operands, summed over every label that is not in `result`, with the axes in the order of `result`.
fn contract(op: &'static str, operands: Vec<Labelled>, result: &[u32]) -> Result<Tensor> {
    let dtype = operands
        .iter()
        .map(|o| o.0.dtype())
        .reduce(crate::DType::promote);
    let mut rest: Vec<Labelled> = Vec::with_capacity(operands.len());
    for (x, l) in operands {
        rest.push(diagonals(op, x, l)?);
    }
    stretch(op, &mut rest)?;
    rest.reverse();
    let Some(mut left) = rest.pop() else {
        return Err(Error::value(op, "no operands"));
    };
    while let Some(right) = rest.pop() {
        let needed = |l: u32| result.contains(&l) || rest.iter().any(|r| r.1.contains(&l));
        left = pair(op, left, right, needed)?;
    }
    let (x, l) = sum_out(left, |l| result.contains(&l))?;
    let order: Vec<isize> = result
        .iter()
        .map(|r| l.iter().position(|l| l == r).unwrap_or(0) as isize)
        .collect();
    let y = permute_dims(&x, &order)?;
    // Integer sums are int64 on the way; the result has the operands' dtype, as NumPy's.
    dtype.map_or(Ok(y.clone()), |d| astype(&y, d))
}
/// Every label once: the diagonal of those that are repeated.
fn diagonals(op: &'static str, mut x: Tensor, mut l: Vec<u32>) -> Result<Labelled> {
    while let Some(b) = (1..l.len()).find(|&b| l[..b].contains(&l[b])) {
        let a = l.iter().position(|x| *x == l[b]).unwrap_or(0);
        if x.shape()[a] != x.shape()[b] {
            return Err(Error::shape(
                op,
                format!(
                    "axes {a} and {b} of shape {} have one label but two sizes",
                    x.shape()
                ),
            ));
        }
        x = diagonal_first(&x, a, b)?;
        let label = l.remove(b);
        l.remove(a);
        l.insert(0, label);
    }
    Ok((x, l))
}
/// Gives each label one size: axes of size 1 are broadcast.
fn stretch(op: &'static str, operands: &mut [Labelled]) -> Result<()> {
    let mut sizes: Vec<(u32, usize)> = Vec::new();
    for (x, l) in operands.iter() {
        for (&label, &n) in l.iter().zip(x.shape().iter()) {
            match sizes.iter_mut().find(|s| s.0 == label) {
                None => sizes.push((label, n)),
                Some(s) if s.1 == 1 => s.1 = n,
                Some(s) if s.1 == n || n == 1 => {}
                Some(s) => {
                    let name = match char::from_u32(label.wrapping_sub(LETTERS)) {
                        Some(c) if label > LETTERS => format!("label '{c}'"),
                        _ => "an axis of the ellipsis".to_owned(),
                    };
                    let shapes: Vec<String> =
                        operands.iter().map(|o| o.0.shape().to_string()).collect();
                    return Err(Error::shape(
                        op,
                        format!(
                            "{name} has sizes {} and {n} in shapes {}",
                            s.1,
                            shapes.join(", ")
                        ),
                    ));
                }
            }
        }
    }
    for (x, l) in operands {
        let size = |label: &u32| sizes.iter().find(|s| s.0 == *label).map_or(1, |s| s.1);
        let shape: Vec<usize> = l.iter().map(size).collect();
        *x = broadcast_to(x, &shape)?;
    }
    Ok(())
}
/// Sums over the axes whose label is not needed.
fn sum_out((x, l): Labelled, needed: impl Fn(u32) -> bool) -> Result<Labelled> {
    let gone: Vec<isize> = (0..l.len())
        .filter(|&d| !needed(l[d]))
        .map(|d| d as isize)
        .collect();
    if gone.is_empty() {
        return Ok((x, l));
    }
    let y = sum(&x, Some(&gone), false, None)?;
    Ok((y, l.into_iter().filter(|l| needed(*l)).collect()))
}
/// The product of two operands, summed over the labels that nobody needs any more.
fn pair(
    op: &'static str,
    a: Labelled,
    b: Labelled,
    needed: impl Fn(u32) -> bool,
) -> Result<Labelled> {
    let lb = b.1.clone();
    let (a, la) = sum_out(a, |l| needed(l) || lb.contains(&l))?;
    let (b, lb) = sum_out(b, |l| needed(l) || la.contains(&l))?;
    let pick = |from: &[u32], f: &dyn Fn(u32) -> bool| -> Vec<u32> {
        from.iter().copied().filter(|&l| f(l)).collect()
    };
    let batch = pick(&la, &|l| lb.contains(&l) && needed(l));
    let summed = pick(&la, &|l| lb.contains(&l) && !needed(l));
    let rows = pick(&la, &|l| !lb.contains(&l));
    let cols = pick(&lb, &|l| !la.contains(&l));
    let place = |l: &[u32], of: u32| l.iter().position(|x| *x == of).unwrap_or(0);
    let groups = |x: &Tensor, l: &[u32], groups: [&[u32]; 3]| -> Result<(Tensor, [Shape; 3])> {
        let order: Vec<isize> = groups
            .concat()
            .iter()
            .map(|&g| place(l, g) as isize)
            .collect();
        let sizes = groups.map(|g| g.iter().map(|&g| x.shape()[place(l, g)]).collect::<Shape>());
        let x = permute_dims(x, &order)?;
        let merged: Shape = sizes.iter().map(Shape::numel).collect();
        Ok((reshape_to(op, &x, merged)?, sizes))
    };
    let (x, [n, m, _]) = groups(&a, &la, [&batch, &rows, &summed])?;
    let (y, [_, _, p]) = groups(&b, &lb, [&batch, &summed, &cols])?;
    let z = if summed.is_empty() || x.dtype() == crate::DType::Bool {
        // An outer product needs no sum; bools do not multiply as matrices.
        let (rows, cols) = (m.numel(), p.numel());
        let k = x.shape()[2];
        let x = reshape_to(op, &x, [n.numel(), rows, k, 1].into())?;
        let y = reshape_to(op, &y, [n.numel(), 1, k, cols].into())?;
        sum_middle(&multiply(&x, &y)?, summed.is_empty(), op)?
    } else {
        matmul(&x, &y)?
    };
    let shape: Shape = n.iter().chain(m.iter()).chain(p.iter()).copied().collect();
    Ok((reshape_to(op, &z, shape)?, [batch, rows, cols].concat()))
}
/// The products `(n, rows, k, cols)` without axis 2: of size 1, or summed.
fn sum_middle(x: &Tensor, single: bool, op: &'static str) -> Result<Tensor> {
    if single {
        let s = x.shape();
        return reshape_to(op, x, [s[0], s[1], s[3]].into());
    }
    sum(x, Some(&[2]), false, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DEVICES, check, irregular, numbers};

    #[test]
    fn a_matrix_product_by_any_name() {
        for d in DEVICES {
            let (a, b) = (irregular(&[3, 4], 0, d), irregular(&[4, 5], 1, d));
            let want = numbers(&matmul(&a, &b).unwrap());
            assert_eq!(numbers(&einsum("ij,jk->ik", &[&a, &b]).unwrap()), want);
            assert_eq!(numbers(&einsum("zy, yx -> zx", &[&a, &b]).unwrap()), want);
            assert_eq!(
                numbers(&tensordot(&a, &b, DotAxes::Count(1)).unwrap()),
                want
            );
            let implicit = einsum("ji,kj", &[&a, &b]);
            assert!(implicit.is_err(), "sizes 3 and 5 of label j");
        }
    }

    #[test]
    fn malformed_equations_are_refused() {
        let a = irregular(&[2, 2], 0, crate::Device::Cpu);
        for eq in [
            "ij,jk", "i", "ij->k", "ij->ii", "i1", "ij->i->j", "....", "...ijk", "ij...",
        ] {
            let ok = eq == "ij...";
            assert_eq!(einsum(eq, &[&a]).is_ok(), ok, "{eq}");
        }
        assert!(einsum("", &[]).is_err());
    }

    #[test]
    fn gradients() {
        let s: &[&[usize]] = &[&[2, 3], &[3, 4], &[4, 2]];
        check(s, false, |x| einsum("ij,jk,ki->i", &[&x[0], &x[1], &x[2]]));
        check(&[&[3, 3, 2]], false, |x| einsum("iij->ij", &[&x[0]]));
        check(&[&[2, 3, 4], &[1, 4]], false, |x| {
            einsum("...ij,...j->...i", &[&x[0], &x[1]])
        });
        check(&[&[2, 3, 4], &[4, 5, 3]], false, |x| {
            tensordot(&x[0], &x[1], DotAxes::Pairs(&[1, 2], &[2, 0]))
        });
    }
}
