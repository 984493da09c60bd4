package schema

// Cases contains the tested types, for the store's tests.
var Cases = cases
