package schema

// Cases are the types that the tests of the store go through, too.
var Cases = cases
