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

// TestCompareScans makes a small comparison, which ends in an error where not all is
// read.
func TestCompareScans(t *testing.T) {
	f := flags{bytes: 1 << 20, memory: 16 << 20, value: 100, batch: 1000, rounds: 1, dir: t.TempDir()}
	if err := f.compareScans(); err != nil {
		t.Fatal(err)
	}
}
