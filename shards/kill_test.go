package shards_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/shards"
	"github.com/go-partd/partd/shuffle"
	"github.com/go-partd/partd/stores"
)

// turned is the URL of a cluster's servers in another order.
func (c *cluster) turned(by int) string {
	return "tcp://" + strings.Join(append(slices.Clone(c.addresses[by:]), c.addresses[:by]...), ",")
}

// Servers are killed in the midst of appends and reads, by clients that list them in
// different orders. Every second time the server first comes back empty, and is killed
// again. Whatever then fails names the server; a reading that ends without an error is
// whole; and in the end each task counts once.
func TestServersAreKilledInTheMidst(t *testing.T) {
	const writers, batches, keys, kills = 3, 30, 20, 8
	ctx := t.Context()
	c := startCluster(t)
	var over atomic.Bool
	var commits, again, readings atomic.Int64
	var refused [3]atomic.Int64 // how often a server's store was another one
	allowed := func(err error) bool {
		for i, address := range c.addresses {
			if strings.Contains(err.Error(), "shard "+address+": ") {
				if errors.Is(err, shards.ErrOtherStore) {
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
		store := open(t, c.turned(n))
		wg.Go(func() {
			for i := 0; !over.Load() && !t.Failed(); i++ {
				task := fmt.Sprint(n, "/", i)
				for err := attempt(store, task); err != nil; err = attempt(store, task) {
					if again.Add(1); !allowed(err) {
						t.Errorf("task %s: %v", task, err)
						return
					}
				}
				tasks.Store(task, true)
				commits.Add(1)
			}
			if err := partd.Close(ctx, store); err != nil {
				t.Error(err)
			}
		})
		reader := open(t, c.turned(n))
		wg.Go(func() {
			for !over.Load() && !t.Failed() {
				if _, err := committed(ctx, reader); err == nil {
					readings.Add(1)
				} else if errors.Is(err, shuffle.ErrNotVerified) || !allowed(err) {
					t.Errorf("a reading that found less: %v", err)
				}
			}
			if err := partd.Close(ctx, reader); err != nil {
				t.Error(err)
			}
		})
	}
	until := func(what string, happened func() bool) {
		for begun := time.Now(); !happened() && !t.Failed(); time.Sleep(time.Millisecond) {
			if time.Since(begun) > time.Minute {
				t.Errorf("after a minute still not: %s", what)
			}
		}
	}
	own := c.args
	for n := range kills {
		victim := rand.IntN(len(c.servers))
		before, read := commits.Load(), readings.Load()
		until("a task and a reading", func() bool { return commits.Load() > before && readings.Load() > read })
		time.Sleep(rand.N(20 * time.Millisecond))
		c.servers[victim].Kill()
		if n%2 == 1 {
			seen := refused[victim].Load()
			c.args[victim] = []string{"--store", "log:" + t.TempDir() + "/data", "--listen"}
			c.again(t, victim)
			until("an empty store is refused", func() bool { return refused[victim].Load() > seen })
			c.servers[victim].Kill()
			c.args[victim] = own[victim]
		}
		c.again(t, victim)
	}
	over.Store(true)
	wg.Wait()
	last := open(t, c.url())
	got, err := committed(ctx, last)
	must(t, errors.Join(err, partd.Close(ctx, last)))
	want := 0
	for task := range tasks.Range {
		want++
		for batch := range batches {
			if n := got[fmt.Sprint(task, "/", batch)]; n != keys {
				t.Fatalf("task %s: batch %d is there %d times, want %d", task, batch, n, keys)
			}
		}
	}
	if len(got) != want*batches {
		t.Errorf("%d batches, want those of %d tasks", len(got), want)
	}
	t.Logf("%d tasks and %d readings, %d attempts failed, through %d kills", commits.Load(), readings.Load(), again.Load(), kills+kills/2)
}

// committed counts the pieces that count, by what they say.
func committed(ctx context.Context, store partd.Partd) (map[string]int, error) {
	c, err := shuffle.ReadCommitted(ctx, store)
	if err != nil {
		return nil, err
	}
	found := map[string]int{}
	for e, err := range c.Scan(ctx) {
		if err != nil {
			return nil, err
		}
		found[string(e.Value)]++
	}
	return found, nil
}

// A server is added by copying to a namespace of all of them. The copy is killed, and so
// is each server beneath it: the source stays as it is, and the command says so until
// the copy is whole.
func TestAServerIsAdded(t *testing.T) {
	ctx := t.Context()
	c := startCluster(t)
	two := "tcp://" + strings.Join(c.addresses[:2], ",")
	three := c.url() + "/three"
	from := open(t, two)
	want, random := map[string]string{}, rand.NewChaCha8([32]byte{1})
	for i := range 96 {
		value := make([]byte, 512<<10)
		_, _ = random.Read(value)
		want[fmt.Sprint("key ", i)] = string(value)
		must(t, from.Append(ctx, partd.Entry{Key: fmt.Sprint("key ", i), Value: value}))
	}
	to := open(t, three)
	must(t, partd.Set(ctx, to, "k", nil)) // so that it can be asked
	copying := func(to string, flags ...string) (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.Command(os.Args[0], append([]string{"copy", "--from", two, "--to", to, "--progress", "never", "--memory", "16MiB"}, flags...)...)
		cmd.Env = append(os.Environ(), asPartd+"=1")
		said := &bytes.Buffer{}
		cmd.Stdout, cmd.Stderr = said, said
		must(t, cmd.Start())
		return cmd, said
	}
	for name, kill := range map[string]func(cmd *exec.Cmd){
		"the copy":   func(cmd *exec.Cmd) { _ = cmd.Process.Kill() },
		"the source": func(*exec.Cmd) { c.servers[0].Kill(); c.again(t, 0) },
		"the new":    func(*exec.Cmd) { c.servers[2].Kill(); c.again(t, 2) },
	} {
		killed := false
		for try := 0; !killed && try < 20; try++ { // a copy may be over before anybody has seen it
			must(t, to.Drop(ctx))
			cmd, said := copying(three)
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			var err error
			for running := true; running; {
				select {
				case err = <-ended:
					running = false
				case <-time.After(time.Millisecond):
					stats, serr := partd.Stat(ctx, to)
					must(t, serr)
					if !killed && stats.Bytes > 0 && stats.Bytes < 40<<20 {
						kill(cmd)
						killed = true
					}
				}
			}
			switch {
			case err == nil && strings.Contains(said.String(), "both stores hold the same keys and values"):
			case killed && (name == "the copy" || strings.Contains(said.String(), "Run the command again with --replace")):
				next, said := copying(three)
				if err := next.Wait(); err == nil || !strings.Contains(said.String(), "already holds keys") {
					t.Errorf("after %s was killed, the command by itself: %v, %s", name, err, said)
				}
			default:
				t.Fatalf("%s was killed: %v, %s", name, err, said)
			}
			t.Logf("%s was killed: %v: %v", name, killed, err)
		}
		if !killed {
			t.Errorf("each copy was over before %s was killed", name)
		}
		next, said := copying(three, "--replace")
		if err := next.Wait(); err != nil || !strings.Contains(said.String(), "keys      96\n") {
			t.Fatalf("again with --replace: %v, %s", err, said)
		}
		for what, store := range map[string]partd.Partd{"source": from, "target": to} {
			if got, err := scan(ctx, store, 0, 1); err != nil || !maps.Equal(got, want) {
				t.Fatalf("%s was killed: the %s holds %d keys, %v", name, what, len(got), err)
			}
		}
	}
	// Not in place, and the new store is nobody's who does not know the new server.
	if cmd, said := copying(c.url(), "--replace"); cmd.Wait() == nil || !strings.Contains(said.String(), "another list of shards") {
		t.Errorf("into the same namespaces: %s", said)
	}
	short := open(t, two+"/three")
	if _, err := short.Get(ctx, "key 1"); !errors.Is(err, shards.ErrOtherList) {
		t.Errorf("by the old list: %v", err)
	}
	must(t, from.Drop(ctx))
	if got, err := scan(ctx, to, 0, 1); err != nil || !maps.Equal(got, want) {
		t.Errorf("without the source: %d keys, %v", len(got), err)
	}
	for _, store := range []partd.Partd{from, to, short} {
		must(t, partd.Close(ctx, store))
	}
}

// A client that is killed while it drops everything leaves each server whole or empty. One
// may be without its list: then it is refused by its name until somebody adopts it.
func TestAClientIsKilledWhileItDrops(t *testing.T) {
	ctx := t.Context()
	c := startCluster(t)
	const keys = 60
	killed, adopted, some := 0, 0, 0
	for round := range 15 {
		store := open(t, c.url())
		var entries []partd.Entry
		for i := range keys {
			entries = append(entries, partd.Entry{Key: fmt.Sprint("key ", i), Value: []byte("x")})
		}
		must(t, store.Drop(ctx))
		must(t, store.Append(ctx, entries...))
		where, on := c.where(t), [3]int{}
		delete(where, "partd-shards") // each has its list under it
		for _, i := range where {
			on[i]++
		}
		cmd := exec.Command(os.Args[0], "drop", "--store", c.url())
		cmd.Env = append(os.Environ(), asPartd+"=1")
		must(t, cmd.Start())
		for changed := round%2 == 1; !changed; { // it is at work, or begins
			stats, err := partd.Stat(ctx, store)
			changed = err != nil || stats.Keys < keys
		}
		time.Sleep(time.Duration(round%2*round) * time.Millisecond)
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err != nil {
			killed++
		}
		late := func() (got map[string]string, err error) { // by who comes now
			store, err := stores.Open(ctx, c.url())
			if err == nil {
				got, err = scan(ctx, store, 0, 1)
				err = errors.Join(err, partd.Close(ctx, store))
			}
			return got, err
		}
		got, err := late()
		for range c.addresses {
			if err == nil {
				break
			}
			i := slices.IndexFunc(c.addresses[:], func(address string) bool { return strings.Contains(err.Error(), "shard "+address+": ") })
			if i < 0 || !errors.Is(err, shards.ErrOtherStore) {
				t.Fatalf("round %d: %v", round, err)
			}
			adopted++
			must(t, stores.NewSet().Adopt(ctx, c.url(), c.addresses[i]))
			got, err = late()
		}
		must(t, err)
		var left [3]int
		for key := range got {
			left[where[key]]++
		}
		for i, n := range left {
			if n > 0 {
				some++
			}
			if n != 0 && n != on[i] {
				t.Errorf("round %d: %s has %d keys, want all of its %d or none", round, c.addresses[i], n, on[i])
			}
		}
		must(t, partd.Close(ctx, store))
	}
	t.Logf("of 15 clients %d were killed; %d times a server had keys, %d servers were adopted", killed, some, adopted)
	if killed == 0 {
		t.Error("no client was killed")
	}
}
