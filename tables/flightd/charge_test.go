package flightd

import (
	"net/http/httptest"
	"testing"
)

// Requests share a quarter of the memory. The one that was charged first always gets more.
func TestCharge(t *testing.T) {
	server, _, _ := serveTest(t, &Options{Memory: 64 << 20, MaxMessage: 1 << 20})
	places := server.NewRequests()
	request := func() *Request {
		q := places.New(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		q.release = func() {}
		return q
	}
	first, second, third := request(), request(), request()
	for i, c := range []struct {
		q       *Request
		mib     int64
		ok      bool
		charged int64
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
		if ok := places.tryCharge(c.q, c.mib<<20); ok != c.ok || places.charged != c.charged<<20 {
			t.Errorf("%d: %v, charged %d MiB", i, ok, places.charged>>20)
		}
	}
	first.release()
	if !places.tryCharge(second, 100<<20) {
		t.Error("the second is not first after the first has left")
	}
	second.release()
	if used := server.memory.used.Load(); places.charged != 0 || len(places.chargers) != 0 || used != 0 {
		t.Errorf("charged %d, %d requests, %d used", places.charged, len(places.chargers), used)
	}
}
