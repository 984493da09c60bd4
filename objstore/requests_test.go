package objstore

import "testing"

// TestRequestsOfOpeningAndFlushing compares the requests with docs/stores.md.
func TestRequestsOfOpeningAndFlushing(t *testing.T) {
	c := NewCounter(new(Memory))
	var before Requests
	costs := func(name string, want Requests) {
		t.Helper()
		r := c.Requests()
		got := Requests{Put: r.Put - before.Put, Get: r.Get - before.Get, List: r.List - before.List, Delete: r.Delete - before.Delete}
		if before = r; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	first := open(t, c, Options{})
	costs("first Open", Requests{Put: 14, Get: 2, List: 2, Delete: 3})
	appendAndFlush(t, first, "k", "1")
	costs("first flush", Requests{Put: 1, Get: 1, List: 1})
	appendAndFlush(t, first, "k", "2")
	costs("next flush", Requests{Put: 1, Get: 1})
	if err := first.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	costs("empty flush", Requests{})
	second := open(t, c, Options{})
	costs("second Open", Requests{Put: 13, Get: 1, Delete: 3})
	appendAndFlush(t, second, "k", "3")
	costs("first flush of the second writer", Requests{Put: 1, Get: 1, List: 1})
	appendAndFlush(t, first, "k", "4")
	costs("flush after another writer's", Requests{Put: 2, Get: 2, List: 1})
	open(t, c, Options{ReadOnly: true})
	costs("read-only Open", Requests{Get: 1})
}
