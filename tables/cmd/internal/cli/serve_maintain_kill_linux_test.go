//go:build cgo

package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// careLoad is writers and readers of two tables. Readers compare each answer with a model.
type careLoad struct {
	*testing.T
	address string
	ended   atomic.Bool
	trouble atomic.Int64 // odd while the server is down or its disk is full, when calls may fail
	next    atomic.Int64 // number of the next batch of ten rows; batch i is for table i%2

	mu             sync.Mutex // guards the fields below
	added          [2][]int64 // acknowledged batches of each table
	calls, retries int
}

// repeat calls f until the load has ended and one more call has succeeded. A failure needs an excuse.
func (l *careLoad) repeat(f func(context.Context, *flightclient.Client) error) {
	var client *flightclient.Client
	for isLast := false; !isLast; time.Sleep(5 * time.Millisecond) {
		isLast = l.ended.Load()
		before := l.trouble.Load()
		if client == nil {
			var err error
			client, err = flightclient.Dial("grpc://"+l.address, nil)
			must.Do(l, err)
		}
		ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
		err := f(ctx, client)
		cancel()
		l.mu.Lock()
		l.calls++
		if err != nil {
			l.retries++
		}
		l.mu.Unlock()
		if err != nil || isLast {
			_ = client.Close()
			client, isLast = nil, err == nil
		}
		if err != nil && before%2 == 0 && l.trouble.Load() == before {
			l.Errorf("without a kill or a full disk: %v", err)
		}
	}
}

// write appends batches of ten rows. It repeats each one, with its ID, until the server acknowledges it.
func (l *careLoad) write() {
	i := l.next.Add(1) - 1
	l.repeat(func(ctx context.Context, c *flightclient.Client) error {
		_, err := c.Put(ctx, "", tableOf(i), tabletest.Rows(tabletest.Sequence(10*i, 10)...), tables.PutAppend, &tables.PutOptions{ID: fmt.Sprint(i)})
		if err == nil {
			l.mu.Lock()
			l.added[i%2] = append(l.added[i%2], i)
			l.mu.Unlock()
			i = l.next.Add(1) - 1
		}
		return err
	})
}

func tableOf(batch int64) string { return fmt.Sprint("t", batch%2) }

// read reads a table. It must find all acknowledged batches, and no half or doubled ones.
func (l *careLoad) read(ctx context.Context, c *flightclient.Client, table int64) error {
	l.mu.Lock()
	must := l.added[table]
	l.mu.Unlock()
	r, err := c.Scan(ctx, "", tableOf(table), nil, &tables.ScanOptions{Columns: []string{"n"}})
	if err != nil {
		return err
	}
	defer r.Release()
	counts := map[int64]int{}
	for r.Next() {
		for _, n := range r.RecordBatch().Column(0).(*array.Int64).Int64Values() {
			counts[n/10] += 1 << (4 * (n % 10))
		}
	}
	if r.Err() != nil {
		return r.Err()
	}
	for i, digits := range counts {
		if digits != 0x1111111111 || i%2 != table || i >= l.next.Load() {
			l.Errorf("table %d: the rows of batch %d occur %010x times (one digit for each row), want once", table, i, digits)
		}
	}
	for _, i := range must {
		if counts[i] == 0 {
			l.Errorf("table %d lacks batch %d", table, i)
		}
	}
	return nil
}

// TestServeMaintainsKilled kills a server PARTD_KILLS times within PARTD_MAINTAIN seconds, and fills its disk in
// between, while PARTD_WRITERS writers append and readers compare the rows with a model. No row may be lost or doubled,
// no call may fail without cause, and few files may remain.
func TestServeMaintainsKilled(t *testing.T) {
	for _, flag := range []string{"--no-tail", "--no-tail=false"} {
		t.Run(flag, func(t *testing.T) { maintainKilled(t, flag) })
	}
}

func maintainKilled(t *testing.T, flag string) {
	writers, kills := tabletest.Rounds(t, "PARTD_WRITERS", 10), procs.Kills(t, 2)
	life := time.Duration(tabletest.Rounds(t, "PARTD_MAINTAIN", 1)) * time.Second / time.Duration(kills+2)
	if flag == "--no-tail" {
		writers = max(5, writers/10) // each put writes the table's metadata
	}
	disk := vfstest.Mount(t, "tmpfs", int64(512+16*writers)<<20)
	dir := filepath.Join(disk, "house")
	l := &careLoad{T: t, address: "localhost:" + nettest.FreePort(t)}
	const memory = 256 << 20
	start := func() *exec.Cmd {
		cmd, _ := startServer(t, "--listen", "grpc://"+l.address, "--dir", dir, "--memory", fmt.Sprint(memory), "--maintain-every", "100ms", "--keep-versions", "3", flag)
		return cmd
	}
	cmd := start()
	var work sync.WaitGroup
	for range writers {
		work.Go(l.write)
	}
	waitUntil(t, "no writer succeeded", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return min(len(l.added[0]), len(l.added[1])) > 0 })
	for table := range int64(2) {
		work.Go(func() {
			l.repeat(func(ctx context.Context, c *flightclient.Client) error { return l.read(ctx, c, table) })
		})
	}
	work.Go(func() { // folds the tail more often than a server does
		l.repeat(func(ctx context.Context, c *flightclient.Client) error { _, err := c.Fold(ctx, nil); return err })
	})
	var peak int64
	for i := range kills {
		time.Sleep(life)
		_, used, err := procs.Memory(cmd.Process.Pid)
		must.Do(t, err)
		peak = max(peak, used)
		l.trouble.Add(1)
		free := func() {}
		if i == kills/2 {
			free = vfstest.Fill(t, disk)
			time.Sleep(life)
		}
		must.Do(t, cmd.Process.Kill())
		_ = cmd.Wait()
		free()
		if life < time.Second { // as if the lease of the killed server had ended
			tabletest.ExecInCatalog(t, dir, `DELETE FROM partd_info WHERE key='lease maintenance'`)
		}
		cmd = start()
		time.Sleep(50 * time.Millisecond) // until calls that met the trouble have failed
		l.trouble.Add(1)
	}
	time.Sleep(life)
	l.ended.Store(true)
	work.Wait()
	client := must.Get(flightclient.Dial("grpc://"+l.address, nil))(t)
	defer client.Close()
	var live int64
	waitUntil(t, "more than 20 files remain", func() bool {
		a, _, err := client.Describe(t.Context(), "", tableOf(0), nil)
		must.Do(t, err)
		b, _, err := client.Describe(t.Context(), "", tableOf(1), nil)
		must.Do(t, err)
		live = a.Bytes + b.Bytes
		return max(a.Files, b.Files) <= 20
	})
	_, used, err := procs.Memory(cmd.Process.Pid)
	must.Do(t, err)
	if peak = max(peak, used); peak > 2*memory {
		t.Errorf("the server used %d bytes of memory, want at most twice --memory", peak)
	}
	must.Do(t, cmd.Process.Signal(syscall.SIGTERM))
	must.Do(t, cmd.Wait())
	data := filepath.Join(dir, "data")
	before := sizeOf(t, data)
	store := tabletest.Open(t, dir, &tables.Options{NoTail: true})
	for range 2 { // as if the files had waited long enough
		must.Get(store.Maintain(t.Context(), &tables.MaintainOptions{Keep: 3, Grace: -1}))(t)
	}
	for table := range int64(2) {
		got, err := tabletest.ReadAll(t.Context(), store.Bucket("").Table(tableOf(table)), nil)
		if want := 10 * len(l.added[table]); err != nil || len(got) != want {
			t.Errorf("at the end, table %d has %d rows, error %v; want %d", table, len(got), err, want)
		}
	}
	after := sizeOf(t, data)
	if after > 2*live+1<<20 { // plus metadata
		t.Errorf("the files have %d bytes, want at most twice the %d live bytes", after, live)
	}
	t.Logf("%d batches, %d calls, %d retries; %d MiB of memory; files of %d bytes; data/ had %d bytes, and later %d; catalog and tail have %d",
		l.next.Load(), l.calls, l.retries, peak>>20, live, before, after, sizeOf(t, dir)-after)
}

// sizeOf returns the total size of a directory's files, in bytes.
func sizeOf(t *testing.T, dir string) (size int64) {
	for _, path := range tabletest.Paths(t, dir, "") {
		size += must.Get(os.Stat(path))(t).Size()
	}
	return size
}
