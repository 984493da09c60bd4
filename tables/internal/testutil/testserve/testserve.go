// Package testserve runs servers for tests.
package testserve

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

// Run calls serve with a listener on a free local port. The server runs until the test ends or stop is
// called. At the end of the test, Run waits for serve to return, and then closes closers in order.
func Run(t testing.TB, serve func(context.Context, net.Listener) error, closers ...io.Closer) (address string, stop func()) {
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
