package wire

import (
	"encoding/json"
	"testing"
)

// TestEmptyKeys checks that a ticket distinguishes nil, which means the table's keys, from an empty list, which means
// no keys.
func TestEmptyKeys(t *testing.T) {
	for _, keys := range [][]string{nil, {}} {
		var got Changes
		text, err := json.Marshal(Changes{Partd: ChangesCall, Keys: keys})
		if err == nil {
			err = Unmarshal(text, &got)
		}
		if err != nil || (got.Keys == nil) != (keys == nil) {
			t.Errorf("keys %#v arrive as %#v, error %v", keys, got.Keys, err)
		}
	}
}
