//! What the compiler says about mistakes with the macros. Here and not beside the bus, whose own dependencies
//! would all be built a second time.

#[test]
fn mistakes_are_explained() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
