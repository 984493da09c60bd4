package pull

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestRegistryLosesRecord removes or damages a record, or replaces it with an older one. The
// nodes must repair the registry, and until then even a new node must load the newest
// version.
func TestRegistryLosesRecord(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	for _, c := range []string{"lost", "older", "garbage"} {
		t.Run(c, func(t *testing.T) {
			const lease = 3 * time.Second
			a := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
			mustSave(t, a, c, 0, "a=1")
			old := a.reg.table(keyOf(c)).record
			mustSave(t, a, c, 1, "a=2")
			want := load(t, a, c, noBound, noBound)
			key := "t." + keyOf(c)
			var err error
			switch c {
			case "lost":
				err = a.reg.nats.delete(t.Context(), key)
			case "older":
				if err = a.reg.sync(t.Context(), time.Minute); err == nil {
					err = a.reg.set(t.Context(), old, a.reg.table(keyOf(c)).revision)
				}
			default:
				err = a.reg.nats.put(t.Context(), key, []byte("{\x00"))
			}
			must.Do(t, err)
			b := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
			wantRows(t, b, c, want)
			wantRows(t, a, c, want)
			waitFor(t, "the nodes to repair the record", func() bool { return b.reg.table(keyOf(c)).Version == 2 })
			if v := mustSave(t, b, c, 2, "a=3"); v != 3 {
				t.Errorf("Save after the repair returned version %d, want 3", v)
			}
		})
	}
}

// TestRegistryOlder puts an older record into the registry. A node that holds the older
// version must not mistake it for the newest, whether the node knew the newer version or was
// opened later.
func TestRegistryOlder(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	c := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	for _, n := range []*Node{b, c} {
		load(t, n, "x", noBound, noBound)
	}
	must.Do(t, c.Close())
	old := a.reg.table(keyOf("x")).record
	mustSave(t, a, "x", 1, "a=2")
	must.Do(t, b.reg.sync(t.Context(), time.Minute))
	must.Do(t, b.reg.set(t.Context(), old, b.reg.table(keyOf("x")).revision))
	for _, n := range []*Node{b, openNode(t, c.disk.dir, Options{Registry: url})} {
		must.Do(t, n.reg.sync(t.Context(), time.Minute))
		if v := n.reg.table(keyOf("x")).Version; v != 1 {
			t.Fatalf("the registry has version %d, want 1", v)
		}
		wantRows(t, n, "x", "0 1\n1 2\n")
		before := n.Stats().Requests
		if load(t, n, "x", noBound, noBound); n.Stats().Requests != before {
			t.Error("a second Load sent requests to other nodes, want none")
		}
	}
}

// TestRegistryReplaced replaces the registry with an empty one. The nodes must restore its
// records.
func TestRegistryReplaced(t *testing.T) {
	t.Parallel()
	s, url := startRegistry(t)
	port := s.Addr().String()
	const lease = 2 * time.Second
	a := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
	for _, name := range []string{"x", "y"} {
		mustSave(t, a, name, 0, "a=1,2")
	}
	s.Shutdown()
	s.WaitForShutdown()
	replacement := must.Get(startServer(t.TempDir(), portOf(t, port), ""))(t)
	t.Cleanup(func() { replacement.Shutdown(); replacement.WaitForShutdown() })
	b := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
	waitFor(t, "both tables to be in the registry", func() bool { all, err := b.List(t.Context()); return err == nil && len(all) == 2 })
	wantRows(t, b, "y", "0 1\n1 2\n")
}

// TestNewest checks that a Load with Newest returns all earlier saves, even if the node's copy of the registry is
// 50 ms old. A repeated Load must send no requests to nodes.
func TestNewest(t *testing.T) {
	t.Parallel()
	s, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	b := openNode(t, t.TempDir(), Options{Registry: "nats://" + delayAnswers(t, s.Addr().String(), 50*time.Millisecond), Newest: true})
	want := ""
	for i := range 3 {
		mustSave(t, a, "x", i, fmt.Sprint("a=", i))
		want += fmt.Sprintf("%d %d\n", i, i)
		wantRows(t, b, "x", want)
		before := b.Stats().Requests
		wantRows(t, b, "x", want)
		if sent := b.Stats().Requests - before; sent != 0 {
			t.Errorf("a second Load sent %d requests, want none", sent)
		}
	}
}

// delayAnswers listens on the returned address and forwards connections to a server. Everything that the server sends
// arrives late by delay.
func delayAnswers(t *testing.T, server string, delay time.Duration) (address string) {
	t.Helper()
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				return
			}
			go func() { _, _ = io.Copy(upstream, client) }()
			go func() {
				for b := make([]byte, 64<<10); ; {
					n, err := upstream.Read(b)
					time.Sleep(delay)
					if _, err2 := client.Write(b[:n]); err != nil || err2 != nil {
						_ = client.Close()
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestStaleness checks that Load fails if no one responds, unless MaxStaleness allows the
// local version.
func TestStaleness(t *testing.T) {
	t.Parallel()
	s, url := startRegistry(t)
	const lease = 300 * time.Millisecond
	dir := t.TempDir()
	a := openNode(t, dir, Options{Registry: url, Lease: lease, SyncTimeout: time.Minute})
	mustSave(t, a, "x", 0, "a=1")
	must.Do(t, a.Close())
	s.Shutdown()
	s.WaitForShutdown()
	strict := openNode(t, dir, Options{Registry: url, Lease: lease, SyncTimeout: time.Second})
	if _, err := strict.Load(t.Context(), "x", noBound, noBound); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("Load without a registry: got error %v, want ErrSyncFailed", err)
	}
	if _, err := strict.Save(t.Context(), "x", rowsOf(t, 1, "a=1")); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("Save without a registry: got error %v, want ErrSyncFailed", err)
	}
	tolerant := openNode(t, dir, Options{Registry: url, Lease: lease, MaxStaleness: time.Hour})
	wantRows(t, tolerant, "x", "0 1\n")
	expired := openNode(t, dir, Options{Registry: url, Lease: lease, SyncTimeout: time.Second, MaxStaleness: time.Nanosecond})
	if _, err := expired.Load(t.Context(), "x", noBound, noBound); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("Load of a version older than MaxStaleness: got error %v, want ErrSyncFailed", err)
	}
}

// TestHoldersGone checks that the error of a Load names each holder and its failure.
func TestHoldersGone(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	b := openNode(t, t.TempDir(), Options{Registry: url})
	must.Do(t, a.Close())
	var failed *SyncError
	if _, err := b.Load(t.Context(), "x", noBound, noBound); !errors.As(err, &failed) || len(failed.Causes) != 1 || failed.Causes[0].Address != a.Address() {
		t.Errorf("Load without its holder: got error %v, want a SyncError with only %s", err, a.Address())
	}
	reopened := openNode(t, a.disk.dir, Options{Registry: url}) // on another port
	must.Do(t, reopened.reg.sync(t.Context(), time.Minute))
	wantRows(t, b, "x", "0 1\n")
}

// TestValidAddress checks that a node sends its token only to plain node addresses.
func TestValidAddress(t *testing.T) {
	for address, want := range map[string]bool{
		"http://10.0.0.1:80": true, "https://host:1": true, "http://[::1]:80": true,
		"": false, "host:1": false, "http://": false, "file:///etc": false, "http://user@host:1": false,
		"http://host:1/path": false, "http://host:1?q": false, "http://host:1#f": false, "http://host:1/": false,
	} {
		if got := validAddress(address, false); got != want {
			t.Errorf("validAddress(%q, false) = %v, want %v", address, got, want)
		}
	}
	if validAddress("http://host:1", true) {
		t.Error("validAddress accepts an http address on a node with TLS")
	}
}
