package objstore

import "testing"

// TestRequestsOfOpeningAndFlushing compares the requests with docs/stores.md.
func TestRequestsOfOpeningAndFlushing(t *testing.T) {
	c := NewCounter(new(Memory))
	var before Requests
	wantRequests := func(name string, want Requests) {
		t.Helper()
		r := c.Requests()
		got := Requests{Put: r.Put - before.Put, Get: r.Get - before.Get, List: r.List - before.List, Delete: r.Delete - before.Delete}
		if before = r; got != want {
			t.Errorf("%s made the requests %v, want %v", name, got, want)
		}
	}
	first := open(t, c, Options{})
	wantRequests("first Open", Requests{Put: 14, Get: 2, List: 2, Delete: 3})
	appendAndFlush(t, first, "k", "1")
	wantRequests("first flush", Requests{Put: 1, Get: 1, List: 1})
	appendAndFlush(t, first, "k", "2")
	wantRequests("next flush", Requests{Put: 1, Get: 1})
	if err := first.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRequests("empty flush", Requests{})
	second := open(t, c, Options{})
	wantRequests("second Open", Requests{Put: 13, Get: 1, Delete: 3})
	appendAndFlush(t, second, "k", "3")
	wantRequests("first flush of the second writer", Requests{Put: 1, Get: 1, List: 1})
	appendAndFlush(t, first, "k", "4")
	wantRequests("flush after another writer's", Requests{Put: 2, Get: 2, List: 1})
	open(t, c, Options{ReadOnly: true})
	wantRequests("read-only Open", Requests{Get: 1})
}
