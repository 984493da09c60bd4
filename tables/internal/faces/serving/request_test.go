package serving

import (
	"net/http/httptest"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestCharge checks that requests share a quarter of the memory, and that only the request that was charged first
// may exceed it.
func TestCharge(t *testing.T) {
	server := must.Get(New(nil, &Options{Memory: 64 << 20, MaxMessage: 1 << 20}))(t)
	requests := server.NewRequests()
	request := func() *Request {
		q := requests.New(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		q.release = func() {}
		return q
	}
	first, second, third := request(), request(), request()
	for i, c := range []struct {
		q            *Request
		requestedMiB int64
		ok           bool
		charged      int64
	}{
		{first, 7, true, 7},
		{second, 7, true, 14},
		{third, 3, false, 14},
		{second, 10, false, 14},
		{first, 100, true, 107},
		{first, 50, true, 107},
		{second, 5, true, 107},
		{second, 8, false, 107},
	} {
		if ok := requests.tryCharge(c.q, c.requestedMiB<<20); ok != c.ok || requests.charged != c.charged<<20 {
			t.Errorf("step %d: tryCharge = %v with %d MiB charged, want %v with %d MiB", i, ok, requests.charged>>20, c.ok, c.charged)
		}
	}
	first.release()
	if !requests.tryCharge(second, 100<<20) {
		t.Error("after the first request ended, the second request may not exceed the limit")
	}
	second.release()
	if used := server.Memory.Used(); requests.charged != 0 || len(requests.byFirstCharge) != 0 || used != 0 {
		t.Errorf("after all requests: %d bytes charged to %d requests, %d bytes used, want none", requests.charged, len(requests.byFirstCharge), used)
	}
}
