package shuffle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/servercli"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/stores"
)

func TestMain(m *testing.M) {
	procs.CollectLess()
	procs.TempInMemory()
	procs.Roles{"server": procs.Program(servercli.Main), "worker": runTask}.Main(m)
}

// runTask runs an attempt. Its arguments are the store's URL, the task and the attempt. The task
// determines the pieces; the attempt determines how they are divided into batches.
func runTask(args []string) (err error) {
	ctx, url, task, attempt := context.Background(), args[0], args[1], args[2]
	store, err := stores.Open(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, partd.Close(ctx, store)) }()
	w, err := Begin(ctx, store, task, attempt)
	if errors.Is(err, ErrCommitted) {
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println("begun")
	if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
		return err
	}
	size := 20 + int(attempt[len(attempt)-1])%7*5
	for batch := range slices.Chunk(piecesOf(task), size) {
		if err := w.Append(ctx, batch...); err != nil {
			return err
		}
		fmt.Println("appended")
		time.Sleep(time.Millisecond)
	}
	return w.Commit(ctx)
}

func piecesOf(task string) (all []partd.Entry) {
	n, _ := strconv.ParseUint(task, 10, 64)
	rnd := rand.New(rand.NewPCG(n, 7))
	for i := range 1500 {
		all = append(all, partd.Entry{Key: fmt.Sprint("key", rnd.IntN(100)), Value: fmt.Appendf(nil, "%s/%d/%d", task, i, rnd.IntN(1000))})
	}
	return all
}

// runWorkers waits until all workers have begun, calls onBegun, and then tells the workers to
// append. It kills each worker after killAfter batches, or never if killAfter is -1, and reports
// whether a worker succeeded.
func runWorkers(workers []*procs.Process, killAfter int, onBegun func()) bool {
	for _, w := range workers {
		_, _ = w.Line() // the worker has begun or ended
	}
	onBegun()
	succeeded := make([]bool, len(workers))
	var wg sync.WaitGroup
	for i, w := range workers {
		wg.Go(func() {
			_, _ = w.In.Write([]byte("g")) // fails if the worker has ended
			for n, ok := 0, true; n != killAfter && ok; n++ {
				_, ok = w.Line()
			}
			if killAfter >= 0 {
				w.Kill()
			}
			succeeded[i] = w.Wait() == nil
		})
	}
	wg.Wait()
	return slices.Contains(succeeded, true)
}

const killedTasks = 8

func startServer(t *testing.T, dir, url string) *procs.Server {
	t.Helper()
	p := must.Get(procs.StartServer(context.Background(), procs.Command("server", "--store", "log:"+dir, "--listen", url), 1))(t)
	t.Cleanup(p.Kill)
	return p
}

const freePort = "tcp://127.0.0.1:0"

// threeServers starts three servers and returns a URL that names all of them.
func threeServers(t *testing.T) string {
	var addresses []string
	for range 3 {
		_, address := startServer(t, t.TempDir()+"/data", freePort).Address()
		addresses = append(addresses, address)
	}
	return "tcp://" + strings.Join(addresses, ",")
}

// runWithKills runs tasks in worker processes, and kills workers and servers at random.
func runWithKills(t *testing.T, seed uint64, servers int) (url string, stop func()) {
	running, dirs, addresses := make([]*procs.Server, servers), make([]string, servers), make([]string, servers)
	for i := range running {
		dirs[i] = t.TempDir() + "/data"
		running[i] = startServer(t, dirs[i], freePort)
		_, addresses[i] = running[i].Address()
	}
	url = "tcp://" + strings.Join(addresses, ",")
	bothBegun := make(chan struct{}) // closed when two processes have begun the same attempt
	markBothBegun := sync.OnceFunc(func() { close(bothBegun) })
	var tasks sync.WaitGroup
	for i := range killedTasks {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		tasks.Go(func() {
			if i == 1 {
				defer markBothBegun() // also if a process does not start
			}
			task := fmt.Sprint(i)
			for n, lastAttempt := 0, 0; ; n++ {
				lastAttempt++
				attempts := []string{fmt.Sprint(lastAttempt)}
				switch {
				case i == 1 && n == 0 || rnd.IntN(4) == 0: // run the same attempt in two processes
					attempts = append(attempts, attempts[0])
				case rnd.IntN(4) == 0: // run two attempts concurrently
					lastAttempt++
					attempts = append(attempts, fmt.Sprint(lastAttempt))
				}
				killAfter := -1
				if i != 1 && (n == 0 || rnd.IntN(2) == 0) && n < 5 {
					killAfter = 1 + rnd.IntN(40)
				}
				var workers []*procs.Process
				for _, attempt := range attempts {
					workers = append(workers, procs.Start(t, procs.Command("worker", url, task, attempt)))
				}
				onBegun := func() {}
				if i == 1 {
					onBegun = markBothBegun
				}
				if runWorkers(workers, killAfter, onBegun) {
					return
				}
				if n > 20 {
					t.Errorf("task %d was never completed", i)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { tasks.Wait(); close(done) }()
	rnd := rand.New(rand.NewPCG(seed, 99))
	<-bothBegun
	for range 2 {
		select {
		case <-done:
		case <-time.After(time.Duration(10+rnd.IntN(400)) * time.Millisecond):
		}
		i := rnd.IntN(servers)
		running[i].Kill()
		running[i] = startServer(t, dirs[i], "tcp://"+addresses[i])
	}
	<-done
	return url, func() {
		for _, p := range running {
			p.Kill()
		}
	}
}

// collectSorted adds the pieces of each key to the map pieces, and sorts them.
func collectSorted(seq iter.Seq2[partd.Entry, error], pieces map[string][]string) error {
	for e, err := range seq {
		if err != nil {
			return err
		}
		pieces[e.Key] = append(pieces[e.Key], string(e.Value))
	}
	for _, values := range pieces {
		slices.Sort(values)
	}
	return nil
}

// lossyStore is a store that loses all pieces of the key "key7".
type lossyStore struct{ partd.Partd }

func (l lossyStore) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		for c, err := range partd.ScanPart(ctx, l.Partd, part, parts) {
			if err == nil && c.Key == "key7" {
				c.Data = nil
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// TestKillWorkers kills workers and starts other attempts at their tasks. Some attempts run concurrently, some
// run in two processes under the same name, and servers are also killed. The committed data must equal the data
// that one undisturbed process would write. PARTD_KILLS=100 repeats the test 100 times.
func TestKillWorkers(t *testing.T) {
	runs := procs.Kills(t, 1)
	rnd := procs.Rand(t)
	want := map[string][]string{}
	var names []string
	for i := range killedTasks {
		names = append(names, fmt.Sprint(i))
		for _, e := range piecesOf(names[i]) {
			want[e.Key] = append(want[e.Key], string(e.Value))
		}
	}
	for _, values := range want {
		slices.Sort(values)
	}
	equalContents := func(got map[string][]string) bool { return maps.EqualFunc(got, want, slices.Equal) }
	for i := range 2 * runs { // with one server, and with three servers that share the keys
		url, stop := runWithKills(t, rnd.Uint64(), 1+i%2*2)
		store := must.Get(stores.Open(t.Context(), url))(t)
		c := must.Get(WaitCommitted(t.Context(), store, &WaitOptions{Tasks: names, Timeout: time.Minute}))(t)
		got := map[string][]string{}
		var sums []Checksum
		for part := range 3 {
			var s Checksum
			must.Do(t, collectSorted(c.ScanPart(t.Context(), part, 3, &s), got))
			sums = append(sums, s)
		}
		if err := c.Verify(sums...); err != nil || !equalContents(got) {
			t.Errorf("run %d: the committed data differs from the data of one undisturbed process (Verify() error = %v)", i, err)
		}
		lossy := &Committed{store: lossyStore{store}, winners: c.winners, index: c.index}
		if err := collectSorted(lossy.Scan(t.Context()), map[string][]string{}); !errors.Is(err, ErrNotVerified) {
			t.Errorf("run %d without the pieces of key7: error = %v, want %v", i, err, ErrNotVerified)
		}
		must.Do(t, partd.Close(t.Context(), store))
		stop()
	}
}
