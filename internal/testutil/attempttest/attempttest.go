// Package attempttest tests that a store supports task attempts.
package attempttest

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/shuffle"
)

// Run makes two attempts at each of three tasks, commits only the second attempts, and checks that
// reading in four parts returns only their data. store must be empty. Run does not close store.
func Run(t *testing.T, store partd.Partd) {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{}
	for task := range 3 {
		for attempt := range 2 {
			w, err := shuffle.Begin(ctx, store, fmt.Sprint(task), fmt.Sprint(attempt))
			check(err)
			for i := range 20 {
				key, value := fmt.Sprint("key/", i%7), strings.Repeat(fmt.Sprint(task, i), 1+i*1000)
				check(w.Append(ctx, partd.Entry{Key: key, Value: []byte(value)}))
				if attempt == 1 {
					want[key] += value + ";"
				}
			}
			if attempt == 1 {
				check(w.Commit(ctx))
			}
		}
	}
	c, err := shuffle.WaitCommitted(ctx, store, &shuffle.WaitOptions{Count: 3})
	check(err)
	got := map[string]string{}
	var total shuffle.Checksum
	for part := range 4 {
		var s shuffle.Checksum
		for e, err := range c.ScanPart(ctx, part, 4, &s) {
			check(err)
			got[e.Key] += string(e.Value) + ";"
		}
		total.Add(s)
	}
	if err := c.Verify(total); err != nil || !maps.Equal(got, want) {
		t.Errorf("ScanPart returned wrong values: %d keys, want %d; Verify returned %v", len(got), len(want), err)
	}
}
