package icecat

import (
	"strings"
	"testing"
)

// TestDecodedCost checks that the cost of a text increases with its values and levels, and that texts are
// refused if decoding them would need far more memory or time than their size suggests.
func TestDecodedCost(t *testing.T) {
	deep := func(levels, length int) string {
		return strings.Repeat("[", levels) + `"` + strings.Repeat("x", length) + `"` + strings.Repeat("]", levels)
	}
	for _, c := range []struct {
		name, text string
		cost       int64 // 0 if an error is expected
		err        string
	}{
		{name: "one value", text: `{"a":"` + strings.Repeat("x", 92) + `"}`, cost: 6*100 + 64},
		{name: "brackets in a text", text: `["[[,,{\"[,"]`, cost: 6*13 + 64},
		{name: "short values", text: `[1,2,{"a":3,"b":4}]`, cost: 6*19 + 64*5},
		{name: "too many values", text: "[" + strings.Repeat("{},", 600_000) + "{}]", err: "has more than 1048576 values"},
		{name: "levels", text: deep(100, 1<<20), cost: 101<<20 + 2*101 + 5050 + 5150 + 100*64},
		{name: "too many levels", text: deep(200, 1<<20), err: "is nested too deeply"},
	} {
		cost, err := DecodedCost([]byte(c.text))
		if cost != c.cost || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: DecodedCost = %d, %v, want %d, %q", c.name, cost, err, c.cost, c.err)
		}
	}
}
