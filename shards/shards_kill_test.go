package shards_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/shards"
	"github.com/go-partd/partd/shuffle"
	"github.com/go-partd/partd/stores"
)

// rotatedURL returns the URL of a cluster's servers, starting with server i.
func (c *cluster) rotatedURL(i int) string {
	return "tcp://" + strings.Join(append(slices.Clone(c.addresses[i:]), c.addresses[:i]...), ",")
}

// TestServersKilledUnderLoad kills servers during appends and reads of clients that list them in
// different orders. Every second time, the server first restarts with an empty store and is killed
// again. Every error must name the server, every read without an error must be complete, and in
// the end each task must count once.
func TestServersKilledUnderLoad(t *testing.T) {
	t.Parallel()
	const writers, batches, keys, kills = 3, 30, 20, 8
	ctx := t.Context()
	c := startCluster(t)
	var finished atomic.Bool
	var commits, retries, reads atomic.Int64
	var refused [3]atomic.Int64 // number of times that a server's store was rejected
	isAllowed := func(err error) bool {
		for i, address := range c.addresses {
			if strings.Contains(err.Error(), "shard "+address+": ") {
				if errors.Is(err, shards.ErrStoreMismatch) {
					refused[i].Add(1)
				}
				return true
			}
		}
		return false
	}
	attempt := func(store partd.Partd, task string) error {
		w, err := shuffle.Begin(ctx, store, task, "")
		if errors.Is(err, shuffle.ErrCommitted) {
			return nil
		}
		for batch := 0; batch < batches && err == nil; batch++ {
			entries := make([]partd.Entry, keys)
			for i := range entries {
				entries[i] = partd.Entry{Key: fmt.Sprint("key ", i), Value: fmt.Appendf(nil, "%s/%d", task, batch)}
			}
			err = w.Append(ctx, entries...)
		}
		if err == nil {
			err = w.Commit(ctx)
		}
		return err
	}
	var tasks sync.Map
	var wg sync.WaitGroup
	for n := range writers {
		store := open(t, c.rotatedURL(n))
		wg.Go(func() {
			for i := 0; !finished.Load() && !t.Failed(); i++ {
				task := fmt.Sprint(n, "/", i)
				for err := attempt(store, task); err != nil; err = attempt(store, task) {
					if retries.Add(1); !isAllowed(err) {
						t.Errorf("task %s failed, and the error names no server: %v", task, err)
						return
					}
				}
				tasks.Store(task, true)
				commits.Add(1)
			}
			must.Check(t, partd.Close(ctx, store))
		})
		reader := open(t, c.rotatedURL(n))
		wg.Go(func() {
			for !finished.Load() && !t.Failed() {
				if _, err := countCommitted(ctx, reader); err == nil {
					reads.Add(1)
				} else if errors.Is(err, shuffle.ErrNotVerified) || !isAllowed(err) {
					t.Errorf("read error = %v, want nil or an error that names a server, but not ErrNotVerified", err)
				}
			}
			must.Check(t, partd.Close(ctx, reader))
		})
	}
	waitFor := func(event string, happened func() bool) {
		for start := time.Now(); !happened() && !t.Failed(); time.Sleep(time.Millisecond) {
			if time.Since(start) > time.Minute {
				t.Errorf("timeout waiting for %s", event)
			}
		}
	}
	originalArgs := c.args
	for n := range kills {
		victim := rand.IntN(len(c.servers))
		oldCommits, oldReads := commits.Load(), reads.Load()
		waitFor("a committed task and a read", func() bool { return commits.Load() > oldCommits && reads.Load() > oldReads })
		time.Sleep(rand.N(20 * time.Millisecond))
		c.servers[victim].Kill()
		if n%2 == 1 {
			seen := refused[victim].Load()
			c.args[victim] = []string{"--store", "log:" + t.TempDir() + "/data", "--listen"}
			c.restart(t, victim)
			waitFor("the rejection of an empty store", func() bool { return refused[victim].Load() > seen })
			c.servers[victim].Kill()
			c.args[victim] = originalArgs[victim]
		}
		c.restart(t, victim)
	}
	finished.Store(true)
	wg.Wait()
	last := open(t, c.url())
	got, err := countCommitted(ctx, last)
	must.Do(t, errors.Join(err, partd.Close(ctx, last)))
	want := 0
	for task := range tasks.Range {
		want++
		for batch := range batches {
			if n := got[fmt.Sprint(task, "/", batch)]; n != keys {
				t.Fatalf("task %s: batch %d is in %d keys, want %d", task, batch, n, keys)
			}
		}
	}
	if len(got) != want*batches {
		t.Errorf("the store has %d batches, want the %d batches of %d tasks", len(got), want*batches, want)
	}
	t.Logf("%d tasks and %d reads, %d failed attempts, %d kills", commits.Load(), reads.Load(), retries.Load(), kills+kills/2)
}

func countCommitted(ctx context.Context, store partd.Partd) (map[string]int, error) {
	c, err := shuffle.ReadCommitted(ctx, store)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for e, err := range c.Scan(ctx) {
		if err != nil {
			return nil, err
		}
		counts[string(e.Value)]++
	}
	return counts, nil
}

// TestAddServer adds a server by copying all keys to a namespace of all servers. It kills the copying
// process, a server of the source, and the new server. The source must not change, and the command
// must not report an incomplete copy as complete.
func TestAddServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startCluster(t)
	oldURL := "tcp://" + strings.Join(c.addresses[:2], ",")
	newURL := c.url() + "/three"
	source := open(t, oldURL)
	want, random := map[string]string{}, rand.NewChaCha8([32]byte{1})
	for i := range 64 {
		value := make([]byte, 512<<10)
		_, _ = random.Read(value)
		want[fmt.Sprint("key ", i)] = string(value)
		must.Do(t, source.Append(ctx, partd.Entry{Key: fmt.Sprint("key ", i), Value: value}))
	}
	target := open(t, newURL)
	must.Do(t, partd.Set(ctx, target, "k", nil)) // creates the namespace, so that Stat works
	startCopy := func(url string, flags ...string) (*exec.Cmd, *bytes.Buffer) {
		cmd := procs.Command("partd", append([]string{"copy", "--from", oldURL, "--to", url, "--progress", "never", "--memory", "16MiB"}, flags...)...)
		output := &bytes.Buffer{}
		cmd.Stdout, cmd.Stderr = output, output
		must.Do(t, cmd.Start())
		return cmd, output
	}
	for name, kill := range map[string]func(cmd *exec.Cmd){
		"the copy":       func(cmd *exec.Cmd) { _ = cmd.Process.Kill() },
		"the source":     func(*exec.Cmd) { c.servers[0].Kill(); c.restart(t, 0) },
		"the new server": func(*exec.Cmd) { c.servers[2].Kill(); c.restart(t, 2) },
	} {
		killed := false
		for try := 0; !killed && try < 20; try++ { // a copy may finish before it can be killed
			must.Do(t, target.Drop(ctx))
			cmd, output := startCopy(newURL)
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			var err error
			for running := true; running; {
				select {
				case err = <-ended:
					running = false
				case <-time.After(time.Millisecond):
					stats, statErr := partd.Stat(ctx, target)
					must.Do(t, statErr)
					if !killed && stats.Bytes > 0 && stats.Bytes < 24<<20 {
						kill(cmd)
						killed = true
					}
				}
			}
			switch {
			case err == nil && strings.Contains(output.String(), "both stores have the same keys and values"):
			case killed && (name == "the copy" || strings.Contains(output.String(), "Run the command again with --replace")):
				next, output := startCopy(newURL)
				if err := next.Wait(); err == nil || !strings.Contains(output.String(), "already has keys") {
					t.Errorf("after %s was killed, another copy ended with %v, want an error about existing keys: %s", name, err, output)
				}
			default:
				t.Fatalf("after %s was killed, the copy ended with %v and reported neither success nor failure: %s", name, err, output)
			}
			t.Logf("%s was killed: %v; the copy ended with %v", name, killed, err)
		}
		if !killed {
			t.Errorf("every copy finished before %s could be killed", name)
		}
		next, output := startCopy(newURL, "--replace")
		if err := next.Wait(); err != nil || !strings.Contains(output.String(), "keys      64\n") {
			t.Fatalf("the copy with --replace ended with %v: %s", err, output)
		}
		for label, store := range map[string]partd.Partd{"source": source, "target": target} {
			if got, err := scan(ctx, store, 0, 1); err != nil || !maps.Equal(got, want) {
				t.Fatalf("after %s was killed, the %s has %d keys, %v, want the original %d", name, label, len(got), err, len(want))
			}
		}
	}
	// A copy cannot change the shard list of a namespace, and a client with the old list cannot
	// read the new store.
	if cmd, output := startCopy(c.url(), "--replace"); cmd.Wait() == nil || !strings.Contains(output.String(), "another shard list") {
		t.Errorf("a copy into the same namespaces printed %s, want an error about another list", output)
	}
	withOldList := open(t, oldURL+"/three")
	if _, err := withOldList.Get(ctx, "key 1"); !errors.Is(err, shards.ErrListMismatch) {
		t.Errorf("Get from the new store with the old list = %v, want ErrListMismatch", err)
	}
	must.Do(t, source.Drop(ctx))
	if got, err := scan(ctx, target, 0, 1); err != nil || !maps.Equal(got, want) {
		t.Errorf("after dropping the source, the target has %d keys, %v, want %d", len(got), err, len(want))
	}
	for _, store := range []partd.Partd{source, target, withOldList} {
		must.Do(t, partd.Close(ctx, store))
	}
}

// TestClientKilledDuringDrop checks that after a client was killed during Drop, each server has all
// of its keys or none. Clients must reject a server that has lost its list, with an error that
// names the server, until the server is adopted.
func TestClientKilledDuringDrop(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startCluster(t)
	const keys = 60
	killed, adopted, withKeys := 0, 0, 0
	for round := range 15 {
		store := open(t, c.url())
		var entries []partd.Entry
		for i := range keys {
			entries = append(entries, partd.Entry{Key: fmt.Sprint("key ", i), Value: []byte("x")})
		}
		must.Do(t, store.Drop(ctx))
		must.Do(t, store.Append(ctx, entries...))
		serverOf, counts := c.serverOf(t), [3]int{}
		delete(serverOf, "partd-shards") // every server has this key
		for _, i := range serverOf {
			counts[i]++
		}
		p := procs.Start(t, procs.Command("partd", "drop", "--store", c.url()))
		for hasBegun := round%2 == 1; !hasBegun; { // in even rounds, wait until the Drop has begun
			stats, err := partd.Stat(ctx, store)
			hasBegun = err != nil || stats.Keys < keys
		}
		time.Sleep(time.Duration(round%2*round) * time.Millisecond)
		p.Kill()
		if p.Wait() != nil {
			killed++
		}
		scanAsNewClient := func() (got map[string]string, err error) {
			store, err := stores.Open(ctx, c.url())
			if err == nil {
				got, err = scan(ctx, store, 0, 1)
				err = errors.Join(err, partd.Close(ctx, store))
			}
			return got, err
		}
		got, err := scanAsNewClient()
		for range c.addresses {
			if err == nil {
				break
			}
			i := slices.IndexFunc(c.addresses[:], func(address string) bool { return strings.Contains(err.Error(), "shard "+address+": ") })
			if i < 0 || !errors.Is(err, shards.ErrStoreMismatch) {
				t.Fatalf("round %d: scan = %v, want no error or ErrStoreMismatch of a server", round, err)
			}
			adopted++
			must.Do(t, stores.NewSet().Adopt(ctx, c.url(), c.addresses[i]))
			got, err = scanAsNewClient()
		}
		must.Do(t, err)
		var remaining [3]int
		for key := range got {
			remaining[serverOf[key]]++
		}
		for i, n := range remaining {
			if n > 0 {
				withKeys++
			}
			if n != 0 && n != counts[i] {
				t.Errorf("round %d: %s has %d keys, want all %d keys or none", round, c.addresses[i], n, counts[i])
			}
		}
		must.Do(t, partd.Close(ctx, store))
	}
	t.Logf("%d of 15 clients were killed; %d times a server still had keys; %d servers were adopted", killed, withKeys, adopted)
	if killed == 0 {
		t.Error("every client finished its Drop before it could be killed")
	}
}
