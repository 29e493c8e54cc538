use serde::Serialize;

/// One figure over all rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Sample {
    /// # Panics
    /// If there are no values.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (last, middle) = (sorted.len() - 1, sorted.len() / 2);
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        } else {
            sorted[middle]
        };
        Self { median, lowest: sorted[0], highest: sorted[last] }
    }
}

/// Median of the ratios of two figures, round by round: what drifts from round to round cancels.
pub fn ratio(values: &[f64], base: &[f64]) -> f64 {
    let ratios: Vec<f64> = values.iter().zip(base).map(|(value, base)| value / base).collect();
    Sample::of(&ratios).median
}
