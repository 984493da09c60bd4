package flightclient_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestSettingsOfTwoClients changes a table from two clients, each between another's read and its change. Both changes
// must remain.
func TestSettingsOfTwoClients(t *testing.T) {
	a, store, _ := serve(t)
	address, _ := addresses.Load(t.Name())
	b, err := flightclient.Dial("grpc://"+fmt.Sprint(address), nil)
	must.Do(t, err)
	ctx := t.Context()
	_, err = store.Bucket("").Table("t").Put(ctx, tabletest.Rows(1), tables.PutError, nil)
	stale, readErr := b.Settings(ctx, "", "t")
	setErr := a.SetSettings(ctx, "", "t", tables.Settings{KeepAge: "1h"}, "keep_age")
	stale.KeepVersions = 3
	must.Do(t, errors.Join(err, readErr, setErr, b.SetSettings(ctx, "", "t", stale, "keep_versions"), b.Close()))
	if s, err := a.Settings(ctx, "", "t"); err != nil || s.KeepAge != "1h" || s.KeepVersions != 3 {
		t.Errorf("settings are %+v, error %v, want the changes of both clients", s, err)
	}
}

// TestProtocolVersions checks that a call of a later version of the protocol fails with an error that says which of the
// two to upgrade.
func TestProtocolVersions(t *testing.T) {
	c, _, _ := serve(t)
	for version, want := range map[string]string{"1": "", "2": "the client speaks version 2 of the protocol, but the server version 1: upgrade the server"} {
		_, err := c.Snapshots(metadata.AppendToOutgoingContext(t.Context(), operations.ProtocolHeader, version), "")
		if (err == nil) != (want == "") || err != nil && (!errors.Is(err, errors.ErrUnsupported) || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("a call of version %s: error %v, want %q", version, err, want)
		}
	}
}

// TestSilentNetwork checks that calls fail if the network silently loses everything, and that their errors say what to
// do. A call that sent a change must report that its outcome is unknown.
func TestSilentNetwork(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 11 s")
	}
	defer flightclient.FastKeepAlive()()
	_, store, _ := serve(t)
	proxy := must.Get(nettest.NewProxy("tcp", serverAddress(t), nettest.CutNever))(t)
	defer proxy.Close() //nolint:errcheck // the test has ended
	c := must.Get(flightclient.Dial("grpc"+strings.TrimPrefix(proxy.URL(), "tcp"), nil))(t)
	defer c.Close() //nolint:errcheck // the connection is broken
	must.Get(store.Bucket("").Table("t").Put(t.Context(), tabletest.Rows(1), tables.PutError, nil))(t)
	must.Get(c.Versions(t.Context(), "", "t"))(t)
	proxy.Silence()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	var changeErr, putErr error
	var calls sync.WaitGroup
	calls.Go(func() { changeErr = c.Delete(ctx, "", "t") })
	calls.Go(func() { _, putErr = c.Put(ctx, "", "endless", batches(1<<40, nil), tables.PutError, nil) })
	_, readErr := c.Versions(ctx, "", "t")
	calls.Wait()
	for _, err := range []error{readErr, changeErr, putErr} {
		if ctx.Err() != nil || err == nil || !strings.Contains(err.Error(), "no longer answers: check both") {
			t.Errorf("a call after the network lost everything: error %v, want one that says that the server does not answer", err)
		}
	}
	if !errors.Is(changeErr, partd.ErrUnknownOutcome) {
		t.Errorf("Delete after the network lost everything = %v, want ErrUnknownOutcome", changeErr)
	}
}

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
	l := must.Get(c.Lock(t.Context(), "b", "t"))(t)
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
	must.Do(t, errors.Join(l.Unlock(t.Context()), l.Unlock(t.Context())))
	local := must.Get(store.Bucket("b").Table("t").Lock(t.Context()))(t)
	must.Do(t, local.Unlock())
}

// TestLease checks that a lease that is not renewed expires, and cannot be renewed afterwards.
func TestLease(t *testing.T) {
	c, store, _ := serve(t)
	raw := must.Get(flight.NewClientWithMiddleware(serverAddress(t), nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials())))(t)
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
	answer := must.Get(doAction("partd.lock", `{"name":"t","seconds":0.2}`))(t)
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
	must.Do(t, l.Unlock())
	for _, body := range []string{`{"name":"t","seconds":-1}`, `{"name":"t","seconds":1e99}`, `{"name":""}`} {
		if _, err := doAction("partd.lock", body); err == nil {
			t.Errorf("partd.lock with %s succeeded, want an error", body)
		}
	}
	must.Fail(t, must.Err(c.Snapshot(t.Context(), "nothing", "")), tables.ErrNotFound, "Snapshot of a missing bucket")
}
