"""The laws that every loss, regularizer and network keeps: `lit-gen check` and the test suite hold code to them."""
