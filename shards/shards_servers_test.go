package shards_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/stores"
)

// TestServersKeepPromises runs partdtest over three servers, with a new namespace for each check.
func TestServersKeepPromises(t *testing.T) {
	var addresses []string
	for range 3 {
		_, address := start(t, "--store", "log:"+t.TempDir()+"/data", "--listen", "tcp://127.0.0.1:0").Address()
		addresses = append(addresses, address)
	}
	n := 0
	storetest.CheckSlow(t, func(t *testing.T) partd.Partd {
		n++
		return open(t, fmt.Sprintf("tcp://%s/n%d", strings.Join(addresses, ","), n))
	}, &partdtest.Options{
		Require: []partdtest.Ability{
			partdtest.CanSet, partdtest.CanDelete, partdtest.CanList, partdtest.CanOpen, partdtest.CanScan,
			partdtest.CanFlush, partdtest.CanSync, partdtest.CanStat, partdtest.CanClose,
		},
		MachineRuns: 3, Pieces: 60, Parts: 2000, // TestKeepsPromises can scan more
	})
}

// TestServersWithUsers checks that a client uses its token for all servers of a URL over TLS, and that
// Open fails if one of them rejects the token.
func TestServersWithUsers(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	ca := must.Get(nettest.NewAuthority(dir, "authority"))(t)
	pair := must.Get(ca.Issue("server", time.Hour, "127.0.0.1"))(t)
	var addresses []string
	for _, users := range []string{"users", "users", "others"} {
		if _, err := os.Stat(dir + "/" + users); errors.Is(err, os.ErrNotExist) {
			token := must.Get(procs.Command("server", "token", "add", "worker", "--tokens-file", dir+"/"+users, "--rights", "append,read,change").Output())(t)
			must.Do(t, os.WriteFile(dir+"/token-"+users, token, 0o600))
		}
		p := start(t, "--store", "mem:", "--listen", "tls://127.0.0.1:0", "--tls-cert", pair.Cert, "--tls-key", pair.Key, "--tokens-file", dir+"/"+users)
		addresses = append(addresses, strings.TrimPrefix(p.URL(), "tls://"))
	}
	options := "?ca=" + ca.File + "&token-file=" + dir + "/token-users"
	s := open(t, "tls://"+strings.Join(addresses[:2], ",")+options)
	for i := range 20 {
		must.Do(t, s.Append(ctx, partd.Entry{Key: fmt.Sprint(i), Value: []byte("x")}))
	}
	stats, err := partd.Stat(ctx, s)
	if err != nil || stats.Keys != 20 || stats.Bytes != 20 {
		t.Errorf("Stat = %+v, %v, want 20 keys with 20 bytes", stats, err)
	}
	must.Do(t, partd.Close(ctx, s))
	if _, err := stores.Open(ctx, "tls://"+strings.Join(addresses, ",")+options); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), addresses[2]) {
		t.Errorf("Open with a server that rejects the token = %v, want ErrPermission of that server", err)
	}
}

// TestServerKilled kills a server under load and restarts it. While the server is down, operations
// on its keys must fail with an error that names the server, and operations on other keys must
// succeed, even for a new client. After the restart all clients must work, and every acknowledged
// batch must exist once.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startCluster(t)
	const writers, keys = 4, 60
	key := func(i int) string { return fmt.Sprint("key ", i) }
	var batches atomic.Int64
	var stopped atomic.Bool
	var acknowledged [writers]atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		store := open(t, c.url())
		wg.Go(func() {
			for !stopped.Load() {
				var batch []partd.Entry
				for i := range keys {
					batch = append(batch, partd.Entry{Key: key(i), Value: fmt.Appendf(nil, "%d/%d ", w, acknowledged[w].Load())})
				}
				if !must.Check(t, store.Append(ctx, batch...)) {
					break
				}
				acknowledged[w].Add(1)
				batches.Add(1)
			}
			must.Check(t, partd.Close(ctx, store))
		})
	}
	probe := open(t, c.url())
	for batches.Load() < 3 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	serverOf := c.serverOf(t)
	must.Get(probe.Get(ctx, key(0)))(t)
	for round := range 2 {
		const victim = 1
		c.servers[victim].Kill()
		newClient := open(t, c.url()) // opened while a server is down
		failed, succeeded := 0, 0
		for i := range keys {
			for name, store := range map[string]partd.Partd{"an old client": probe, "a new client": newClient} {
				shortCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
				if serverOf[key(i)] == victim {
					cancel()
					shortCtx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
				}
				_, err := store.Get(shortCtx, key(i))
				cancel()
				switch {
				case serverOf[key(i)] != victim:
					succeeded++
					if err != nil {
						t.Fatalf("Get by %s from a server that is up: %v", name, err)
					}
				case err == nil || !strings.Contains(err.Error(), "shard "+c.addresses[victim]+": "):
					t.Fatalf("Get by %s from the server that is down = %v, want an error that names the server", name, err)
				default:
					failed++
				}
			}
		}
		if failed == 0 || succeeded == 0 {
			t.Fatalf("%d gets failed and %d succeeded, want some of both", failed, succeeded)
		}
		c.restart(t, victim)
		// An append in progress during two kills may end with an unknown outcome.
		for w := range acknowledged {
			for before := acknowledged[w].Load(); acknowledged[w].Load() < before+5 && !t.Failed(); {
				time.Sleep(time.Millisecond)
			}
		}
		if got, err := scan(ctx, newClient, 0, 1); err != nil || len(got) != keys {
			t.Errorf("round %d: scan by the new client = %d keys, %v, want %d", round, len(got), err, keys)
		}
		must.Do(t, partd.Close(ctx, newClient))
	}
	stopped.Store(true)
	wg.Wait()
	got := map[string]string{}
	for part := range 2 {
		partValues := must.Get(scan(ctx, probe, part, 2))(t)
		maps.Copy(got, partValues)
	}
	must.Do(t, partd.Close(ctx, probe))
	if len(got) != keys {
		t.Errorf("both parts have %d keys, want %d", len(got), keys)
	}
	want := make([]int64, writers)
	for w := range want {
		want[w] = acknowledged[w].Load()
	}
	for k, value := range got {
		next := make([]int64, writers)
		for _, piece := range strings.Fields(value) {
			var w int
			var n int64
			if _, err := fmt.Sscanf(piece, "%d/%d", &w, &n); err != nil || n != next[w] {
				t.Fatalf("%s: the next piece of writer %d is %q, want number %d", k, w, piece, next[w])
			}
			next[w]++
		}
		if !slices.Equal(next, want) {
			t.Fatalf("%s has %d batches, want the acknowledged %d", k, next, want)
		}
	}
	t.Logf("%d batches of %d keys were appended during two kills", batches.Load(), keys)
}
