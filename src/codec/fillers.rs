use super::Shape;
use super::segment::FARTHEST;

/// How many escapes to expect that stand for weights with a code, between two that are too far apart for one distance, where
/// `uncoded` of a tensor's weights have no code, and which ones is a matter of chance.
///
/// Multiplies and adds only, so that every machine comes to the same number.
pub(super) fn expected(shape: Shape, uncoded: u64) -> u64 {
    let (Some(weights @ 1..), rows) = (shape.weights(), shape.segment_rows()) else { return 0 };
    let without_code = uncoded.min(weights) as f64 / weights as f64;
    let whole = (shape.rows / rows) as f64 * in_segment(rows * shape.k, without_code);
    (whole + in_segment(shape.rows % rows * shape.k, without_code)).ceil() as u64
}

/// The same for one segment of so many weights.
fn in_segment(weights: u64, without_code: f64) -> f64 {
    let far = FARTHEST as u64;
    let none_near = (0..far).fold(1.0, |chance, _| chance * (1.0 - without_code));
    let (mut fillers, mut chance) = (0.0, without_code);
    // An escape has its n-th filler if the n * 255 weights before it have codes, and are not the first of the segment, from which
    // distances count.
    for nearest in (1..).map(|n| n * far + 1).take_while(|&nearest| nearest < weights) {
        chance *= none_near;
        fillers += chance * (weights - nearest) as f64;
    }
    fillers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_without_escapes_and_none_where_all_are() {
        let shape = Shape { k: 4096, rows: 100 };
        assert_eq!(expected(shape, 0), 0);
        assert_eq!(expected(shape, 4096 * 100), 0);
        assert_eq!(expected(Shape { k: 0, rows: 5 }, 0), 0);
        assert_eq!(expected(Shape { k: 5, rows: 0 }, 0), 0);
    }

    #[test]
    fn one_escape_in_a_segment() {
        // At place 255 · n + 1 and beyond it has n fillers; it is as likely at one place as at the other.
        let shape = Shape { k: 4096, rows: 1 };
        let fillers: u64 = (0..4096u64).map(|place| place.saturating_sub(1) / 255).sum();
        let mean = fillers as f64 / 4096.0;
        // By chance it can also be missing, or be two.
        let found = in_segment(4096, 1.0 / 4096.0);
        assert!((0.4 * mean..mean).contains(&found), "{found} of {mean}");
        assert_eq!(expected(shape, 1), found.ceil() as u64);
    }
}
