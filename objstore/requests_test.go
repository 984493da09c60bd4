package objstore

import "testing"

// What openings and flushes cost, as docs/stores.md says.
func TestRequestsOfOpeningAndFlushing(t *testing.T) {
	c := Count(new(Memory))
	var before Requests
	costs := func(what string, want Requests) {
		t.Helper()
		r := c.Requests()
		got := Requests{Put: r.Put - before.Put, Get: r.Get - before.Get, List: r.List - before.List, Delete: r.Delete - before.Delete}
		if before = r; got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	first := open(t, c, Options{})
	costs("the first opening", Requests{Put: 14, Get: 2, List: 2, Delete: 3})
	add(t, first, "k", "1")
	costs("a first flush", Requests{Put: 1, Get: 1, List: 1})
	add(t, first, "k", "2")
	costs("a flush", Requests{Put: 1, Get: 1})
	if err := first.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	costs("a flush of nothing", Requests{})
	second := open(t, c, Options{})
	costs("an opening", Requests{Put: 13, Get: 1, Delete: 3})
	add(t, second, "k", "3")
	costs("another's first flush", Requests{Put: 1, Get: 1, List: 1})
	add(t, first, "k", "4")
	costs("a flush after another writer's", Requests{Put: 2, Get: 2, List: 1})
	open(t, c, Options{ReadOnly: true})
	costs("an opening to read", Requests{Get: 1})
}
