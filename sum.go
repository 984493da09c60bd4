package partd

import "github.com/go-partd/partd/internal/base/ledger"

// Sum is the sum of the XXH3-128 hashes of records or values, modulo 2^128. The order of the hashes
// does not matter, and the sums of disjoint sets add up to the sum of their union.
type Sum struct{ Hi, Lo uint64 }

// Add adds the sum of other records or values.
func (s *Sum) Add(o Sum) { (*ledger.Sum128)(s).Add(ledger.Sum128(o)) }

// String returns the sum as 32 hexadecimal digits.
func (s Sum) String() string { return ledger.Sum128(s).String() }
