package main

import (
	"testing"

	"github.com/go-partd/partd/logstore"
)

// TestEveryStoreIsChecked makes a small run of each store, which ends in an
// error where a value that is read is not what was appended.
func TestEveryStoreIsChecked(t *testing.T) {
	for _, dist := range []string{"uniform", "zipf", "hot"} {
		for _, name := range targets {
			l, err := newLoad(300, 20_000, 100, 1000, dist)
			if err != nil {
				t.Fatal(err)
			}
			r, err := measure(name, t.TempDir(), l, &logstore.Options{Memory: 16 << 20}, false)
			if err != nil {
				t.Errorf("%s, %s: %v", name, dist, err)
			} else if r.ScanRead != 20_000*100 {
				t.Errorf("%s, %s: %d bytes were read", name, dist, r.ScanRead)
			}
		}
	}
}
