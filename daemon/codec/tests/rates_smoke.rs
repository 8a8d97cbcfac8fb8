//! The rates program stays runnable.

#[path = "../examples/rates.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod rates;

#[test]
fn the_rates_of_few_lines_are_measured() {
    rates::run(50, 1, None);
}
