package flightclient_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/go-partd/partd/tables"
)

// addresses maps the name of a test to the address of its server.
var addresses sync.Map

// serverAddress returns the address of the test's server.
func serverAddress(t *testing.T) string {
	a, _ := addresses.Load(t.Name())
	return a.(string)
}

// TestLock checks that a lock that a client holds also excludes callers in the server's own process, until the
// client unlocks it.
func TestLock(t *testing.T) {
	c, store, _ := serve(t)
	l, err := c.Lock(t.Context(), "b", "t")
	if err != nil {
		t.Fatal(err)
	}
	withTimeout := func(f func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		return f(ctx)
	}
	if err := withTimeout(func(ctx context.Context) error { _, err := c.Lock(ctx, "b", "t"); return err }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Client.Lock of a held lock = %v, want DeadlineExceeded", err)
	}
	if err := withTimeout(func(ctx context.Context) error { _, err := store.Bucket("b").Table("t").Lock(ctx); return err }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Table.Lock of a held lock = %v, want DeadlineExceeded", err)
	}
	if err := errors.Join(l.Unlock(t.Context()), l.Unlock(t.Context())); err != nil {
		t.Error(err)
	}
	local, err := store.Bucket("b").Table("t").Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := local.Unlock(); err != nil {
		t.Error(err)
	}
}

// TestLease checks that a lease that is not renewed expires, and cannot be renewed afterwards.
func TestLease(t *testing.T) {
	c, store, _ := serve(t)
	raw, err := flight.NewClientWithMiddleware(serverAddress(t), nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close() //nolint:errcheck // the test is over
	doAction := func(action, body string) (string, error) {
		stream, err := raw.DoAction(t.Context(), &flight.Action{Type: action, Body: []byte(body)})
		if err != nil {
			return "", err
		}
		r, err := stream.Recv()
		if err != nil {
			return "", err
		}
		return string(r.Body), nil
	}
	answer, err := doAction("partd.lock", `{"name":"t","seconds":0.2}`)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for range 4 {
		time.Sleep(100 * time.Millisecond)
		if renewed, err := doAction("partd.lock", answer); err != nil || renewed != answer {
			t.Fatalf("renewing the lease returned %q, error %v; want %q", renewed, err, answer)
		}
	}
	l, err := store.Bucket("").Table("t").Lock(t.Context())
	if err != nil || time.Since(start) < 500*time.Millisecond {
		t.Fatalf("the lock became free after %v (error %v), want at least 500 ms", time.Since(start), err)
	}
	if _, err := doAction("partd.lock", answer); err == nil {
		t.Error("an expired lease was renewed")
	}
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}
	for _, body := range []string{`{"name":"t","seconds":-1}`, `{"name":"t","seconds":1e99}`, `{"name":""}`} {
		if _, err := doAction("partd.lock", body); err == nil {
			t.Errorf("partd.lock with %s succeeded, want an error", body)
		}
	}
	if _, err := c.Snapshot(t.Context(), "nothing", ""); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("Snapshot of a missing bucket = %v, want ErrNotFound", err)
	}
}
