package pull

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/files/content"
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
	must.Fail(t, must.Err(strict.Load(t.Context(), "x", noBound, noBound)), ErrSyncFailed, "Load without a registry")
	must.Fail(t, must.Err(strict.Save(t.Context(), "x", rowsOf(t, 1, "a=1"))), ErrSyncFailed, "Save without a registry")
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

// TestBackupRecordLost deletes a table's record from the registry. A backup by a node that has the table's
// files must include the table; a backup by another node must fail.
func TestBackupRecordLost(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	must.Do(t, a.reg.nats.delete(t.Context(), "t."+keyOf("x")))
	for _, n := range []*Node{a, b} {
		must.Do(t, n.reg.sync(t.Context(), time.Minute))
	}
	bucket := new(objstore.Memory)
	if done := mustBackup(t, a, bucket, "one"); len(done) != 1 || done[0].Version != 1 {
		t.Errorf("Backup on the holder = %+v, want version 1 of x", done)
	}
	if done, err := b.Backup(t.Context(), bucket, "two", false); !errors.Is(err, ErrSyncFailed) || !strings.Contains(err.Error(), "lost") {
		t.Errorf("Backup on another node = %+v, %v, want an ErrSyncFailed about the lost record", done, err)
	}
}

// TestBackupIsNotStale checks that a backup fails if it cannot get the newest versions,
// even if MaxStaleness allows Load to return older ones.
func TestBackupIsNotStale(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	b := openNode(t, t.TempDir(), Options{Registry: url, MaxStaleness: time.Hour})
	mustSave(t, a, "x", 0, "a=1")
	load(t, b, "x", noBound, noBound)
	mustSave(t, a, "x", 1, "a=2")
	must.Do(t, a.Close())
	must.Do(t, b.reg.sync(t.Context(), time.Minute))
	wantRows(t, b, "x", "0 1\n")
	if done, err := b.Backup(t.Context(), new(objstore.Memory), "one", false); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("Backup = %+v, %v, want ErrSyncFailed", done, err)
	}
}

// TestBackupNamesAndDirectory checks that Backup rejects a name that the bucket cannot store,
// before it sends anything. It also checks that a node's own directory can hold backups, and
// that tables with the same rows share files.
func TestBackupNamesAndDirectory(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	for _, name := range []string{"x", "y"} {
		mustSave(t, a, name, 0, "a=1")
	}
	b := objstore.NewCounter(must.Get(objstore.OpenDirectory(a.disk.dir))(t))
	for _, name := range []string{".new-x", strings.Repeat("é", 127)} {
		if _, err := a.backup(t.Context(), content.Bucket{Bucket: b, Prefix: backupFiles}, name, false); err == nil || b.Requests().Put != 0 {
			t.Errorf("Backup(%q): got error %v and %d objects, want an error and none", name, err, b.Requests().Put)
		}
	}
	if done := mustBackup(t, a, b, ".."); sentFiles(done) != 3 {
		t.Errorf("Backup = %+v, want 1 shared file and 2 manifests", done)
	}
}

// TestSweepDuringRestore checks that a concurrent sweep keeps old files that a restore or a
// save uses again, although no head (a node's list of the versions of a table) refers to them yet.
func TestSweepDuringRestore(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	b := openNode(t, t.TempDir(), Options{Registry: url})
	load(t, b, "x", noBound, noBound)
	bucket := new(objstore.Memory)
	mustBackup(t, a, bucket, "one")
	mustSave(t, a, "x", 0, "a=2")
	load(t, b, "x", noBound, noBound)
	for _, n := range []*Node{a, b} { // remove the backup's version from the head, and make its files old
		h := must.Get(n.disk.head(keyOf("x")))(t)
		h.Old = nil
		text, err := json.Marshal(h)
		if err == nil {
			err = n.disk.replace(n.disk.headFile(keyOf("x")), text)
		}
		must.Do(t, err)
		entries := must.Get(filepath.Glob(n.disk.Path("*")))(t)
		for _, path := range entries {
			past := time.Now().Add(-2 * orphanAge)
			must.Do(t, os.Chtimes(path, past, past))
		}
	}
	var swept atomic.Int64
	addHostilePeer(t, a, func(w http.ResponseWriter, r *http.Request) { // runs a sweep between the restore of the files and the restore of the registry's record
		if strings.HasPrefix(r.URL.Path, headPath) && a.disk.sweep(a.reg.records()) == nil {
			swept.Add(1)
		}
		http.NotFound(w, r)
	})
	must.Get(a.Restore(t.Context(), bucket, "one"))(t)
	v, _, err := b.fetchBase(t.Context(), "x")
	if err == nil {
		err = b.disk.sweep(nil)
	}
	if err != nil || swept.Load() == 0 || v.record.Version != 3 {
		t.Fatalf("fetchBase = version %d, %v after %d sweeps, want version 3 after at least one", v.record.Version, err, swept.Load())
	}
	for i, n := range []*Node{a, b} {
		if f := v.files[0]; !n.disk.Contains(f.HashNamed) {
			t.Errorf("the sweep on node %d removed the file %s", i, f.Hash)
		}
	}
}

// TestRestoreKeepsNewerVersion restores a version that descends from the current one. The
// restored version must keep its number. Otherwise, if a node returned with a version numbered
// between the two, that version would replace the restored one.
func TestRestoreKeepsNewerVersion(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	load(t, b, "x", noBound, noBound)
	mustSave(t, a, "x", 1, "a=2")
	between := a.reg.newestKnown(keyOf("x"))
	mustSave(t, a, "x", 2, "a=3")
	bucket := new(objstore.Memory)
	mustBackup(t, a, bucket, "one")
	must.Do(t, a.Close())
	must.Do(t, b.Forget(t.Context(), "x"))
	must.Do(t, b.reg.sync(t.Context(), time.Minute))
	done, err := b.Restore(t.Context(), bucket, "one")
	if err != nil || done[0].Version != 3 {
		t.Errorf("Restore = %+v, %v, want version 3", done, err)
	}
	if e := b.reg.table(keyOf("x")); e.Version <= between.Version {
		t.Errorf("the registry has version %d, want a newer one than %d", e.Version, between.Version)
	}
	wantRows(t, b, "x", "0 1\n1 2\n2 3\n")
}
