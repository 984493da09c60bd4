package nettest

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

// Serve calls the function serve in the background, with a listener on a free local port. serve's
// context is canceled when stop is called or the test ends. The test's cleanup waits for serve to
// return, and then closes closers in order.
func Serve(t testing.TB, serve func(context.Context, net.Listener) error, closers ...io.Closer) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		err := <-done
		for _, c := range closers {
			err = errors.Join(err, c.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), stop
}
