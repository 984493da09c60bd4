package objstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

func TestMain(m *testing.M) {
	procs.Roles{"writer": writeUntilKilled, "create": func(args []string) error {
		b, err := OpenDirectory(args[0])
		if err == nil {
			err = b.Create(context.Background(), "seg/x", []byte("data"))
		}
		return err
	}}.Main(m)
}

// writeUntilKilled prints its acknowledged pieces until it is killed. Its arguments are the directory of the bucket,
// the writer's name, and the number of waiting records that it creates before it kills itself, or 0.
func writeUntilKilled(args []string) error {
	ctx := context.Background()
	b, err := OpenDirectory(args[0])
	if err != nil {
		return err
	}
	s, err := Open(ctx, b, &Options{Memory: MinMemory})
	if err != nil {
		return err
	}
	killAt, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	s.bucket = &faultyBucket{Bucket: b, create: func(ctx context.Context, name string, data []byte) error {
		time.Sleep(rand.N(4 * time.Millisecond)) // lets other writers win
		err := b.Create(ctx, name, data)
		if strings.HasPrefix(name, waitPrefix) {
			if killAt--; killAt == 0 {
				procs.KillSelf()
			}
		}
		return err
	}}
	for i := 0; ; i++ {
		err := s.Append(ctx, partd.Entry{Key: "all", Value: fmt.Appendf(nil, "%s.%d;", args[1], i)})
		if err = errors.Join(err, s.Flush(ctx)); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// TestKilledWriters kills writer processes, half of them right after they created a waiting record, which
// other writers may commit. All pieces that they reported as acknowledged must exist once, and in order.
func TestKilledWriters(t *testing.T) {
	dir := t.TempDir()
	b := must.Get(OpenDirectory(dir))(t)
	const workers, processes = 5, 4
	var mu sync.Mutex
	acknowledged := map[string]int{} // number of pieces by writer
	killedWhileWaiting := 0
	must.Concurrently(workers, func(worker int) {
		for process := range processes {
			writer := fmt.Sprintf("%d-%d", worker, process)
			killAt := 0
			if process%2 == 0 {
				killAt = 1 + worker
			}
			p := procs.Start(t, procs.Command("writer", dir, writer, strconv.Itoa(killAt)))
			pieces, limit := 0, 5+rand.IntN(20)
			for line := range p.Lines() {
				if line != strconv.Itoa(pieces) {
					t.Errorf("the writer printed %q, want %d", line, pieces)
				}
				if pieces++; pieces == limit && process%2 == 1 || pieces == 500 { // after 500 pieces, no other writer competes
					p.KillAfter(0)
				}
			}
			p.WaitKilled(t)
			mu.Lock()
			acknowledged[writer] = pieces
			if process%2 == 0 && pieces < 500 {
				killedWhileWaiting++
			}
			mu.Unlock()
		}
	})
	all := must.Get(readValue(t, b, "all"))(t)
	counts := map[string]int{}
	for piece := range strings.SplitSeq(strings.TrimSuffix(all, ";"), ";") {
		writer, i, _ := strings.Cut(piece, ".")
		if i != fmt.Sprint(counts[writer]) {
			t.Errorf("piece %s follows %d pieces of its writer", piece, counts[writer])
		}
		counts[writer]++
	}
	unacknowledged := 0
	for writer, n := range acknowledged {
		if counts[writer] != n && counts[writer] != n+1 { // the writer may have died before it printed the last piece
			t.Errorf("writer %s has %d pieces, but %d were acknowledged", writer, counts[writer], n)
		}
		unacknowledged += counts[writer] - n
	}
	t.Logf("%d pieces of %d writers, %d killed when their record began to wait; %d records of dead writers were committed without an acknowledgment",
		len(strings.Split(all, ";"))-1, len(acknowledged), killedWhileWaiting, unacknowledged)
	if killedWhileWaiting == 0 {
		t.Error("no writer was killed right after it created a waiting record, so the test proves nothing about such records")
	}
}
